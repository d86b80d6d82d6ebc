// Runs the nft program: the only file that starts a process for the fence. Builds no rules and judges none.
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { FenceError } from './errors.ts';
import { isFields } from './json.ts';
import { startMonitor } from './monitor.ts';
import type { Family, NftObject } from './objects.ts';
import { checkTable } from './spec.ts';
import type { WatchedNft } from './transaction.ts';

export interface NftOptions {
  /** The nft program; default: `nft` on PATH, then `/usr/sbin/nft`, which a user's PATH may lack. */
  readonly program?: string;
  /** Words put before it, e.g. `nsenter --net=/run/netns/x --` to work in another namespace; default: none. */
  readonly enter?: readonly string[];
  /** Milliseconds for one call; default 10,000. */
  readonly timeoutMs?: number;
}

interface Call {
  readonly args: readonly string[];
  /** Opened file that becomes stdin. */
  readonly stdin?: number;
}

interface Answer {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** nft on this machine. Needs CAP_NET_ADMIN in the namespace it works in, also for `check` and `list`. */
export function createNft(options: NftOptions = {}): WatchedNft {
  const send = async (args: readonly string[], body: object): Promise<void> =>
    await withFile(JSON.stringify(body), async (stdin) => {
      const answer = await callNft(options, { args: ['-j', ...args, '-f', '-'], stdin });
      if (answer.exitCode !== 0) throw refused(answer);
    });
  return {
    check: async (tx) => await send(['-c'], tx),
    apply: async (tx) => await send([], tx),
    list: async (table, family = 'inet') => {
      const answer = await callNft(options, { args: ['-j', 'list', 'table', family, checkTable(table)] });
      if (answer.exitCode === 0) {
        const listing = readListing(answer.stdout);
        return family === 'netdev' ? await withDevices(options, table, listing) : listing;
      }
      if (isMissing(answer)) return [];
      throw refused(answer);
    },
    ruleset: async () => {
      const answer = await callNft(options, { args: ['-j', '-t', 'list', 'ruleset'] });
      if (answer.exitCode !== 0) throw refused(answer);
      return readListing(answer.stdout);
    },
    save: async (table, families) => {
      const parts = families.map(async (family) => await saveTable(options, checkTable(table), family));
      const text = (await Promise.all(parts)).join('');
      await withFile(text, async (stdin) => {
        const answer = await callNft(options, { args: ['-c', '-f', '-'], stdin });
        if (answer.exitCode !== 0) throw refused(answer);
      });
      return text;
    },
    monitor: (onNews, onEnd) =>
      startMonitor(
        programsOf(options).map((program) => [...(options.enter ?? []), program, '-j', 'monitor']),
        onNews,
        onEnd,
      ),
  };
}

/** nft 1.0.6 leaves the link of an ingress chain out of its JSON: its text has it. */
async function withDevices(
  options: NftOptions,
  table: string,
  listing: readonly NftObject[],
): Promise<readonly NftObject[]> {
  const { exitCode, stdout } = await callNft(options, { args: ['list', 'table', 'netdev', table] });
  const found =
    exitCode === 0 ? stdout.matchAll(/chain (\S+) \{\s+type \w+ hook ingress device "([^"]+)"/g) : [];
  const devices = new Map([...found].map(([, chain = '', dev = '']) => [chain, dev]));
  return listing.map((object) => {
    const { chain } = object;
    const dev = devices.get(String(chain?.['name']));
    return chain === undefined || dev === undefined ? object : { chain: { dev, ...chain } };
  });
}

/** In nft's own syntax: its JSON listing loses what its text keeps (1.0.6). */
async function saveTable(options: NftOptions, table: string, family: Family): Promise<string> {
  const answer = await callNft(options, { args: ['list', 'table', family, table] });
  const isThere = answer.exitCode === 0;
  if (!isThere && !isMissing(answer)) throw refused(answer);
  return `add table ${family} ${table}\ndelete table ${family} ${table}\n${isThere ? answer.stdout : ''}\n`;
}

/** The kernel's ENOENT: no such table. */
function isMissing({ stderr }: Answer): boolean {
  return /^Error: (No such file or directory|Could not process rule: Operation not supported)/m.test(stderr);
}

/**
 * nft opens `/dev/stdin` by path, and opening the socket that Node calls a pipe fails with ENXIO (nft 1.0.6, `-j`).
 * A file opens, even one without a name: so nothing is left behind, whatever happens.
 */
async function withFile(text: string, use: (fd: number) => Promise<void>): Promise<void> {
  const path = join(tmpdir(), `sallyport-nft-${randomUUID()}`);
  const fd = openSync(path, 'wx+', 0o600);
  try {
    rmSync(path); // at once, in the same turn: a killed process leaves no name
    writeSync(fd, text, 0); // at a position: the descriptor's own offset stays 0, for an nft that reads it without opening
    await use(fd);
  } finally {
    closeSync(fd);
  }
}

function programsOf({ program }: NftOptions): readonly string[] {
  return program === undefined ? ['nft', '/usr/sbin/nft'] : [program];
}

async function callNft(options: NftOptions, call: Call): Promise<Answer> {
  const programs = programsOf(options);
  for (const program of programs) {
    const answer = await start(program, options, call);
    if (answer !== 'missing') return answer;
  }
  throw new FenceError(
    'nft_missing',
    `cannot run \`${programs[0] ?? ''}\`: there is no such program`,
    'install nftables: `apt-get install nftables` on Debian, `nix-env -iA nixpkgs.nftables` with Nix',
  );
}

async function start(program: string, options: NftOptions, call: Call): Promise<Answer | 'missing'> {
  const [first = program, ...rest] = [...(options.enter ?? []), program, ...call.args];
  const timeout = options.timeoutMs ?? 10_000;
  const result = await execa(first, rest, {
    reject: false,
    timeout,
    killSignal: 'SIGKILL',
    stdin: call.stdin !== undefined && isDescriptor(call.stdin) ? call.stdin : 'ignore',
    env: { LC_ALL: 'C' },
  });
  // 127: `enter` has run, but found no such program.
  if (result.code === 'ENOENT' || (options.enter !== undefined && result.exitCode === 127)) return 'missing';
  if (result.timedOut) throw failed(`nft did not answer within ${timeout} ms`);
  if (result.exitCode === undefined && result.signal === undefined)
    throw failed(result.message ?? 'nft could not be started');
  return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr };
}

/** execa takes any open descriptor as stdin; its types stop at 9. */
function isDescriptor(fd: number): fd is 3 {
  return Number.isInteger(fd);
}

function refused({ exitCode, stderr }: Answer): FenceError {
  const said = stderr.trim().slice(0, 500) || `exit status ${exitCode ?? 'none'}`;
  if (!/operation not permitted|must be root/i.test(said)) return failed(`nft refused: ${said}`);
  return new FenceError(
    'nft_not_permitted',
    `nft may not change or read rules here: ${said}`,
    'run as root, or with CAP_NET_ADMIN in this network namespace',
  );
}

function failed(message: string): FenceError {
  return new FenceError(
    'nft_failed',
    message,
    'no rule was changed; `sallyport doctor` says what this machine lacks',
  );
}

function readListing(text: string): readonly NftObject[] {
  const root = parse(text);
  const list = isFields(root) ? root['nftables'] : undefined;
  if (!Array.isArray(list)) throw failed('nft printed a listing that is not JSON of nftables');
  return list.filter(isObject).filter((object) => !('metainfo' in object));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is NftObject {
  return isFields(value) && Object.values(value).every(isFields);
}
