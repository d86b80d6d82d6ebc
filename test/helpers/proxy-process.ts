// The real `sallyport proxy` as a process of its own: what it says, what it listens on, how it ends. Its answers are read elsewhere.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import type { Test } from 'tap';

/** The suite runs once with each relay; SALLYPORT_RELAY says which. */
const relayUnderTest: Readonly<Record<string, string>> =
  process.env['SALLYPORT_RELAY'] === undefined ? {} : { SALLYPORT_RELAY: process.env['SALLYPORT_RELAY'] };

/** The program itself. */
export const entry = join(import.meta.dirname, '../../container/main.ts');

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** One line of the operational log. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string };

export interface ProxyProcess {
  readonly child: ChildProcess;
  /** Our end of descriptor 3. */
  readonly lifeline: Socket;
  /** First port of the proxy. */
  readonly port: number;
  readonly metricsPort: number;
  /** The next log line with this message, from now on. */
  logged(message: string): Promise<LogLine>;
  readonly ended: Promise<Ended>;
}

/** Runs `sallyport` to its end. The environment is empty but for `env`. */
export async function runSallyport(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  return await endOf(
    spawn(process.execPath, [entry, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...env } }),
  );
}

/** Hosts come from the hosts file alone. */
const noDns = ['--resolver', '127.0.0.1:9', '--dns-timeout-ms', '200'];

/** Starts a proxy and waits until it says that it listens. It never asks a name server, unless `dns` gives one. */
export async function startProxyProcess(
  t: Test,
  args: readonly string[],
  dns: readonly string[] = noDns,
): Promise<ProxyProcess> {
  const all = [entry, 'proxy', '--ready-fd', '3', ...dns, ...args];
  const child = spawn(process.execPath, all, {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    env: relayUnderTest,
  });
  const ended = endOf(child);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const logged = logOf(child);
  const lifeline = child.stdio[3];
  if (!(lifeline instanceof Socket)) throw new Error('descriptor 3 is a socket');
  const [listening] = await Promise.all([logged('listening'), once(lifeline, 'data')]);
  const { listening: ports, metrics } = listening as {
    listening?: { port: number }[];
    metrics?: { port: number };
  };
  return { child, lifeline, port: ports?.[0]?.port ?? 0, metricsPort: metrics?.port ?? 0, logged, ended };
}

async function endOf(child: ChildProcess): Promise<Ended> {
  if (child.stdout === null || child.stderr === null) throw new Error('stdout and stderr are pipes');
  const [stdout, stderr, closed] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  return { status: closed[0] as number | null, stdout, stderr };
}

/** Each message has its own queue: a line that came before somebody asked is not lost. */
function logOf(child: ChildProcess): (message: string) => Promise<LogLine> {
  const lines: LogLine[] = [];
  const wakers: (() => void)[] = [];
  if (child.stderr === null) throw new Error('stderr is a pipe');
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (line.startsWith('{')) lines.push(JSON.parse(line) as LogLine);
    for (const wake of wakers.splice(0)) wake();
  });
  return async (message) => {
    for (;;) {
      const found = lines.findIndex(({ msg }) => msg === message);
      const [line] = found === -1 ? [] : lines.splice(found, 1);
      if (line !== undefined) return line;
      await Promise.race([new Promise<void>((wake) => wakers.push(wake)), failOnEnd(child)]);
    }
  };
}

async function failOnEnd(child: ChildProcess): Promise<never> {
  await once(child, 'close');
  throw new Error('the process ended before it said so');
}

/** A folder of a test with a policy that can be replaced in one step, and a hosts file. */
export interface PolicyFolder {
  readonly folder: string;
  readonly policy: string;
  readonly hosts: string;
  readonly write: (content: string) => Promise<void>;
}

export async function policyFolder(t: Test, content: string, hosts = ''): Promise<PolicyFolder> {
  const folder = await mkdtemp(join(tmpdir(), 'sallyport-main-'));
  t.teardown(async () => await rm(folder, { recursive: true, force: true }));
  const policy = join(folder, 'policy.json');
  const write = async (next: string): Promise<void> => {
    await writeFile(`${policy}.new`, next);
    await rename(`${policy}.new`, policy);
  };
  await write(content);
  await writeFile(join(folder, 'hosts'), hosts);
  return { folder, policy, hosts: join(folder, 'hosts'), write };
}

/** Every TCP address on which process `pid` itself listens, as `hex-address:port`, read from the kernel. */
export function listeningAddresses(pid: number): readonly string[] {
  const inodes = new Set(readdirSync(`/proc/${pid}/fd`).map((fd) => inodeOf(`/proc/${pid}/fd/${fd}`)));
  const rows = ['tcp', 'tcp6'].flatMap((name) =>
    readFileSync(`/proc/${pid}/net/${name}`, 'utf8').split('\n').slice(1),
  );
  const listening = rows.map((row) => row.trim().split(/\s+/u)).filter(([, , , state]) => state === '0A');
  return listening
    .filter((row) => inodes.has(row[9] ?? ''))
    .map(([, local = '']) => readLocal(local))
    .toSorted();
}

function inodeOf(path: string): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/u.exec(readlinkSync(path))?.[1];
  } catch {
    return undefined;
  }
}

function readLocal(local: string): string {
  const [address = '', port = ''] = local.split(':');
  return `${address}:${Number.parseInt(port, 16)}`;
}
