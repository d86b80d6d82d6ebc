// Says what a test needs from the machine, so that a lesser machine skips it by name. Not a way to hide a failure: with CI set, a missing need throws.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** A right (`root`, `netns`), a protocol (`ipv6`), or the name of a program. */
export type Need = 'root' | 'netns' | 'userns' | 'ipv6' | (string & {});

interface Commenter {
  comment(message: string): void;
}

/** Rights are tried out, not guessed from names: a container's root often cannot make a namespace. */
const rights = new Map<string, { holds(): boolean; help: string }>([
  ['root', { holds: () => process.getuid?.() === 0, help: 'run as root' }],
  [
    'netns',
    {
      holds: () => runs('ip', ['netns', 'list']) && runs('unshare', ['-n', 'true']),
      help: 'run as root with CAP_SYS_ADMIN',
    },
  ],
  ['userns', { holds: () => runs('unshare', ['-Urn', 'true']), help: 'allow unprivileged user namespaces' }],
  ['ipv6', { holds: () => isReadable('/proc/net/if_inet6'), help: 'use a kernel with IPv6' }],
]);

/**
 * What of `wanted` this machine lacks, as the `skip` value of a test: `false` when nothing is missing.
 * With the environment variable CI set a missing need throws instead, so the test fails rather than skips.
 *
 * `t.test('...', { skip: needs(t, ['root', 'nft']) }, async t => { ... })`
 */
export function needs(t: Commenter, wanted: readonly Need[]): false | string {
  const missing = wanted.map(lack).filter((text) => text !== undefined);
  if (missing.length === 0) return false;
  const reason = `needs ${missing.join('; ')}`;
  if (process.env['CI'] !== undefined)
    throw new Error(`this machine is to run every test, but a test ${reason}`);
  t.comment(reason);
  return reason;
}

function lack(need: Need): string | undefined {
  const right = rights.get(need);
  if (right !== undefined) return right.holds() ? undefined : `${need} (${right.help})`;
  return findProgram(need) === undefined ? `${need} (install it)` : undefined;
}

/** Full path of a program, looked for on PATH and in the system directories that a user's PATH may lack. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  return isAccessible(path, constants.X_OK);
}

function isReadable(path: string): boolean {
  return isAccessible(path, constants.R_OK);
}

function isAccessible(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

function runs(program: string, args: readonly string[]): boolean {
  const path = findProgram(program);
  return path !== undefined && spawnSync(path, args, { stdio: 'ignore', timeout: 10_000 }).status === 0;
}
