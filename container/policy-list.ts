// The list of what is allowed, as the command can read it in its sandbox: what `policy list` says of the policy in force. Decides nothing.
import { chmod, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunOptions } from './options.ts';
import type { CompiledPolicy } from './proxy-part.ts';

/** Where the command finds it; the variable SALLYPORT_POLICY says so, too. */
export const policyListInside = '/run/sallyport/policy/list';

/** Its directory on this machine, in that of the run. */
export function policyListDirectory(directory: string): string {
  return join(directory, 'told');
}

/** Writes it, or replaces it in one step; a sandbox that sees the directory sees the new one. Without hints nothing is told: null. */
export async function tellPolicy(
  directory: string,
  policy: CompiledPolicy,
  { hints, services, hostPorts }: Pick<RunOptions, 'hints' | 'services' | 'hostPorts'>,
): Promise<string | null> {
  if (!hints) return null;
  const told = policyListDirectory(directory);
  await mkdir(told, { recursive: true });
  await chmod(told, 0o755);
  const draft = join(told, '.list');
  const text = policy.list({ services: services.map((service) => service.text), hostPorts });
  await writeFile(draft, text, { mode: 0o644 });
  await chmod(draft, 0o644);
  await rename(draft, join(told, 'list'));
  return told;
}
