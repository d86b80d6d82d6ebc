// Takes links down and up with `ip`: what is left to do when the rules of a sandbox cannot be kept. Makes and deletes none.
import { execFile } from 'node:child_process';
import { FenceError } from './errors.ts';

const timeoutMs = 10_000;

/** How `ip` is run: `enter` are words put before it, as for nft. */
export interface IpOptions {
  readonly enter?: readonly string[];
}

/** Moves every one of `links`. A link that is gone is as good as down. Rejects with a FenceError. */
export async function moveLinks(
  links: readonly string[],
  to: 'up' | 'down',
  options: IpOptions = {},
): Promise<void> {
  for (const link of links) await moveLink(link, to, options);
}

async function moveLink(link: string, to: 'up' | 'down', options: IpOptions): Promise<void> {
  try {
    await runIp(['link', 'set', 'dev', link, to], options);
  } catch (error) {
    if (error instanceof FenceError && /Cannot find device/.test(error.message)) return;
    throw error;
  }
}

/** Standard output of `ip ARGS`. Rejects with a FenceError `nft_failed`. */
export async function runIp(args: readonly string[], { enter = [] }: IpOptions = {}): Promise<string> {
  return await runTool(['ip', ...args], enter);
}

/** Standard output of a program. Rejects with a FenceError `nft_failed`. */
export async function runTool(argv: readonly string[], enter: readonly string[] = []): Promise<string> {
  const [program = '', ...rest] = [...enter, ...argv];
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  execFile(program, rest, { timeout: timeoutMs, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
    if (error === null) resolve(stdout);
    else reject(refused(argv, stderr.trim() || error.message, error));
  });
  return await promise;
}

function refused(argv: readonly string[], said: string, cause: Error): FenceError {
  const message = `\`${argv.join(' ')}\` failed: ${said}`;
  return new FenceError('nft_failed', message, 'install iproute2 and util-linux, and run as root', { cause });
}
