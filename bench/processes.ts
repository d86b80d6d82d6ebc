// Starts the processes that are measured, waits until they listen, and reads from /proc what they and their children cost. Ends each one
// it started. Knows no proxy by name.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';

export interface Started {
  readonly pid: number;
  /** Asks it to end, then makes it; resolves when it has. */
  readonly stop: () => Promise<void>;
}

export interface StartOptions {
  /** What it says goes here; never to the terminal. */
  readonly log: string;
  /** 127.0.0.1:PORT where it is to listen. */
  readonly port: number;
  readonly env?: Readonly<Record<string, string>>;
}

const startLimitMs = 15_000;
const stopLimitMs = 2000;

/** Starts a server and waits until its port takes connections. Throws Error with the end of its log when it does not. */
export async function startServer(
  command: string,
  args: readonly string[],
  { log, port, env }: StartOptions,
): Promise<Started> {
  const out = openSync(log, 'a');
  const child = spawn(command, args, { stdio: ['ignore', out, out], env: { ...process.env, ...env } });
  child.once('error', () => {});
  const deadline = performance.now() + startLimitMs;
  while (!(await takesConnections(port))) {
    if (
      child.pid === undefined ||
      child.exitCode !== null ||
      child.signalCode !== null ||
      performance.now() > deadline
    ) {
      await stop(child);
      throw new Error(`\`${command}\` does not listen: ${lastLines(log)}`);
    }
    await wait(20);
  }
  return { pid: child.pid ?? 0, stop: async () => await stop(child) };
}

async function takesConnections(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const tree = treeOf(child.pid);
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await Promise.race([ended, wait(stopLimitMs, undefined, { ref: false })]);
  // Its children too: a server that was killed does not take them along.
  for (const pid of tree) killQuietly(pid);
  await ended;
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

function lastLines(log: string): string {
  return readFileSync(log, 'utf8').trim().split('\n').slice(-3).join(' | ');
}

/** `root` and every process that came from it. */
export function treeOf(root: number): readonly number[] {
  const children = Map.groupBy(
    readdirSync('/proc').map(Number).filter(Number.isInteger),
    (pid) => statOf(pid)?.parent,
  );
  const below = (pid: number): readonly number[] => [pid, ...(children.get(pid) ?? []).flatMap(below)];
  return below(root);
}

interface Stat {
  readonly parent: number;
  /** In ticks; with that of threads, and of children that have ended. */
  readonly ticks: number;
}

const ticksPerSecond = 100; // USER_HZ, the same on every Linux that Node runs on

function statOf(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name may hold anything, a bracket too: what follows begins behind the last one.
    const fields = text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    const [, parent = 0] = fields;
    return { parent, ticks: fields.slice(11, 15).reduce((sum, ticks) => sum + ticks, 0) };
  } catch {
    return undefined;
  }
}

/** Seconds of CPU that the tree of `root` has used, in user and kernel mode. */
export function cpuSecondsOf(root: number): number {
  const ticks = treeOf(root).map((pid) => statOf(pid)?.ticks ?? 0);
  return ticks.reduce((sum, one) => sum + one, 0) / ticksPerSecond;
}

/** KiB of memory of the tree of `root`, pages shared with other processes counted by share. */
export function memoryKiBOf(root: number): number {
  return treeOf(root)
    .map((pid) => Number(/^Pss:\s+(\d+)/mu.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0))
    .reduce((sum, one) => sum + one, 0);
}
