// One change of a table at a time: a file lock (flock(2)) for each table and network namespace, which the kernel lifts when its holder dies.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { FenceError } from './errors.ts';

/** Where locks and saved rules are kept: `folder` is made with mode 0700. */
export interface Place {
  readonly folder: string;
  readonly table: string;
}

/** A lock that is held. */
export interface TableLock {
  /** The locked descriptor: a process that inherits it holds the lock as well. */
  readonly fd: number;
  release(): Promise<void>;
}

/** Waits at most `waitSeconds` (default 3) for the lock. Rejects with a FenceError: `busy` when somebody else has it. */
async function lockTable(place: Place, waitSeconds = 3): Promise<TableLock> {
  const file = await openLock(place);
  try {
    if (await flock(file.fd, waitSeconds)) return { fd: file.fd, release: async () => await file.close() };
    throw new FenceError(
      'busy',
      `another change of table \`${place.table}\` is under way, or awaits its confirmation`,
      'wait for it, or end it: `sallyport fence confirm` keeps what was applied',
    );
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Does `work` under the lock. Rejects as `lockTable` does, or as `work` does. */
export async function underLock<T>(
  place: Place,
  work: (lock: TableLock) => Promise<T>,
  waitSeconds?: number,
): Promise<T> {
  const lock = await lockTable(place, waitSeconds);
  try {
    return await work(lock);
  } finally {
    await lock.release();
  }
}

/** Name of what belongs to one table of this network namespace. */
export async function fileOf({ folder, table }: Place, what: string): Promise<string> {
  const [, inode = '0'] = /\[(\d+)\]/.exec(await readlink('/proc/self/ns/net')) ?? [];
  return join(folder, `fence-${inode}-${table}.${what}`);
}

async function openLock(place: Place): Promise<FileHandle> {
  try {
    await mkdir(place.folder, { recursive: true, mode: 0o700 });
    return await open(await fileOf(place, 'lock'), 'a', 0o600);
  } catch (error) {
    throw new FenceError(
      'busy',
      `no lock can be taken in \`${place.folder}\`: ${error instanceof Error ? error.message : ''}`,
      'run as root, or give SALLYPORT_STATE_DIR a folder that this user may write',
      { cause: error },
    );
  }
}

/** Node has no flock(2). The program locks what it inherits, and the lock stays with our descriptor when it ends. */
async function flock(fd: number, waitSeconds: number): Promise<boolean> {
  const child = spawn('flock', ['-x', '-w', String(waitSeconds), '3'], {
    stdio: ['ignore', 'ignore', 'ignore', fd],
  });
  const ended = once(child, 'close').then(([code]: unknown[]) => code);
  const code = await ended.catch(() => undefined);
  if (code === 0 || code === 1) return code === 0;
  throw new FenceError('busy', 'the program `flock` did not run', 'install util-linux');
}
