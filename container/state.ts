// The directory that remembers a run: who owns it and what it took, so that a later run can give it back. It removes nothing in the kernel.
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isRunId } from './names.ts';
import { RunRefused } from './refusal.ts';

/** A process, told apart from a later one with the same number. */
export interface Owner {
  readonly pid: number;
  /** Clock ticks after boot (proc(5), field 22). */
  readonly start: string;
  readonly boot: string;
}

/** One run as written to `run.json`. */
export interface RunRecord {
  readonly id: string;
  readonly owner: Owner;
  /** Inode of the network namespace the run's table and host link are in. */
  readonly hostNetns: string;
  /** Inode of the sandbox's namespace; null until it is made. */
  readonly sandboxNetns: string | null;
}

/** Paths under the state directory. */
export interface StatePaths {
  readonly runs: string;
  readonly slots: string;
  readonly audit: string;
}

/** Where things are kept under `state`. */
export function statePaths(state: string): StatePaths {
  return { runs: join(state, 'runs'), slots: join(state, 'slots'), audit: join(state, 'audit') };
}

/** Makes the state directory: others may pass through (the proxy's uid does), not list. */
export async function prepareState(state: string): Promise<StatePaths> {
  const paths = statePaths(state);
  for (const directory of [paths.runs, paths.slots, paths.audit]) {
    await mkdir(directory, { recursive: true, mode: 0o711 });
  }
  return paths;
}

/** Makes the run's directory with its record, in one step: a directory without a record is never seen. */
export async function createRunDirectory(paths: StatePaths, record: RunRecord): Promise<string> {
  const draft = join(paths.runs, `.draft-${record.owner.pid}-${record.id}`);
  const final = join(paths.runs, record.id);
  await mkdir(draft, { mode: 0o711 });
  await writeRecord(draft, record);
  try {
    await rename(draft, final);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw new RunRefused(
      'usage',
      `run \`${record.id}\` is already there`,
      'choose another --name, or wait for it to end',
      { cause: error },
    );
  }
  return final;
}

/** Replaces the record in `directory` in one step. */
export async function writeRecord(directory: string, record: RunRecord): Promise<void> {
  const draft = join(directory, '.run.json');
  await writeFile(draft, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  await rename(draft, join(directory, 'run.json'));
}

/** Every run with a readable record, and the names of directories that have none. */
export async function listRuns(
  paths: StatePaths,
): Promise<{ records: readonly RunRecord[]; strays: readonly string[] }> {
  const records: RunRecord[] = [];
  const strays: string[] = [];
  for (const name of await readdir(paths.runs).catch(() => [])) {
    const record = await readRecord(join(paths.runs, name));
    if (record !== undefined && record.id === name) records.push(record);
    else strays.push(name);
  }
  return { records, strays };
}

async function readRecord(directory: string): Promise<RunRecord | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(directory, 'run.json'), 'utf8'));
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is RunRecord {
  if (typeof value !== 'object' || value === null) return false;
  if (!('id' in value) || typeof value.id !== 'string' || !isRunId(value.id)) return false;
  if (!('owner' in value) || !isOwner(value.owner)) return false;
  if (!('hostNetns' in value) || typeof value.hostNetns !== 'string') return false;
  return 'sandboxNetns' in value && (value.sandboxNetns === null || typeof value.sandboxNetns === 'string');
}

function isOwner(value: unknown): value is Owner {
  if (typeof value !== 'object' || value === null) return false;
  return (
    'pid' in value &&
    typeof value.pid === 'number' &&
    'start' in value &&
    typeof value.start === 'string' &&
    'boot' in value
  );
}

/** This process. */
export function thisOwner(): Owner {
  return { pid: process.pid, start: startTime(process.pid) ?? '', boot: bootId() };
}

/** True while the very process that wrote the record is alive. */
export function isAlive(owner: Owner): boolean {
  return owner.boot === bootId() && startTime(owner.pid) === owner.start;
}

/** Start of process `pid`, or undefined when there is none. A zombie is as good as gone. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command name may hold spaces and brackets: fields are counted after the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Identity of the network namespace of process `pid`, as `net:[4026531840]`; undefined when it cannot be read. */
export function netnsOf(pid: number | 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}
