// Looks whether the `node` that a command finds obeys the proxy variables. It only tells; the fence holds either way.
import { sandboxPath } from './environment.ts';
import { tool } from './exec.ts';
import { findTool } from './preflight.ts';

/** One clause for the start line, or null when there is no `node` on the sandbox's own PATH or it obeys. */
export async function oldNodeNote(): Promise<string | null> {
  const node = findTool('node', sandboxPath);
  if (node === undefined) return null;
  return noteOf(await tool(node, ['--version']).catch(() => ''));
}

/** `version` as `node --version` prints it. NODE_USE_ENV_PROXY is read from 22.21 on, and from 24 on. */
export function noteOf(version: string): string | null {
  const [, major, minor] = /^v(\d+)\.(\d+)\./.exec(version) ?? [];
  if (major === undefined || minor === undefined) return null;
  const obeys = Number(major) >= 24 || (major === '22' && Number(minor) >= 21);
  return obeys
    ? null
    : `\`node\` inside is ${version.trim()}: its fetch ignores the proxy variables, 24 or newer does not`;
}
