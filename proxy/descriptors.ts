// Compares the file descriptors that a proxy may need with those it may open. Changes neither.
import { readFileSync } from 'node:fs';
import type { ProxySettings } from './config.ts';

export interface DescriptorShortage {
  /** RLIMIT_NOFILE of this process. */
  readonly limit: number;
  /** What the settings may take: two for each tunnel, one for each client that has not asked yet. */
  readonly needed: number;
  readonly help: string;
}

/** What is missing, or undefined when there is enough or the limit is not known. `limits` is the text of /proc/self/limits. */
export function descriptorShortage(
  { maxTunnels }: Pick<ProxySettings, 'maxTunnels'>,
  limits: string = ownLimits(),
): DescriptorShortage | undefined {
  const limit = Number(/^Max open files\s+(\d+)/mu.exec(limits)?.[1] ?? Infinity);
  const needed = 3 * maxTunnels;
  if (limit >= needed) return undefined;
  const help = `raise RLIMIT_NOFILE (\`ulimit -n\`, \`LimitNOFILE=\`) to ${needed}, or lower --max-tunnels to ${Math.floor(limit / 3)}`;
  return { limit, needed, help };
}

function ownLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return '';
  }
}
