// The way back from an apply that nobody confirms: a small process of its own that holds the rules from before and puts them back in time,
// whatever becomes of the process that applied. It judges nothing.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { FenceError } from './errors.ts';
import { fileOf, type Place, type TableLock } from './lock.ts';

/** A guard that is armed: without `keep` the rules from before are back when `ended` resolves. */
export interface Guard {
  /** Resolves once it has put the rules back, or was told to keep the new ones. */
  readonly ended: Promise<'kept' | 'restored'>;
  /** Puts the rules back now. */
  restore(): void;
}

/**
 * Whoever renames the file first decides: `sallyport fence confirm` to `.kept`, this to `.restoring`. Signals only wake it. It has its own session,
 * no terminal, and holds the lock (descriptor 3) until it is done.
 */
const script = `
PATH="$PATH:/usr/sbin:/sbin"
restore() { mv "$2.armed" "$2.restoring" 2>/dev/null && nft -f "$2.restoring" && rm "$2.restoring"; kill "$nap" 2>/dev/null; exit 0; }
trap 'restore "$@"' USR1
trap '' INT TERM HUP
sleep "$1" </dev/null >/dev/null 2>&1 3>&- &
nap=$!
echo armed
exec >/dev/null 2>&1
wait "$nap"
restore "$@"
`;

/**
 * Starts the guard with the rules (native nft syntax) that it would load after `seconds`, under a lock that it shares. Rejects with a FenceError
 * when it is not armed: then nothing may be applied.
 */
export async function armGuard(
  place: Place,
  lock: TableLock,
  rules: string,
  seconds: number,
): Promise<Guard> {
  const base = await fileOf(place, 'before');
  await rm(`${base}.kept`, { force: true });
  await rm(`${base}.restoring`, { force: true });
  await writeFile(`${base}.armed`, rules, { mode: 0o600 });
  const child = spawn('sh', ['-c', script, 'sallyport-fence-guard', String(seconds), base], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore', lock.fd],
  });
  const closed = once(child, 'exit');
  const said = child.stdout === null ? closed : once(child.stdout, 'data');
  const [first]: unknown[] = await Promise.race([said, closed]).catch(() => ['it did not start']);
  if (!String(first).startsWith('armed'))
    throw new FenceError('nft_failed', 'the guard for the way back did not start', 'nothing was changed');
  await writeFile(`${base}.guard`, String(child.pid), { mode: 0o600 });
  return {
    ended: closed.then(async () => await outcome(base)),
    restore: () => void child.kill('SIGUSR1'),
  };
}

/** Keeps what was applied. Rejects with a FenceError `rolled_back` when nothing awaits it (any more). */
export async function confirmTable(place: Place): Promise<void> {
  const base = await fileOf(place, 'before');
  try {
    await rename(`${base}.armed`, `${base}.kept`);
  } catch (error) {
    throw new FenceError(
      'rolled_back',
      `no apply of table \`${place.table}\` awaits a confirmation`,
      'it was rolled back, confirmed before, or never made with --confirm; `sallyport fence verify` says what holds',
      { cause: error },
    );
  }
  const pid = Number(await readFile(`${base}.guard`, 'utf8').catch(() => '0'));
  if (await isGuard(pid)) process.kill(pid, 'SIGUSR1');
}

async function isGuard(pid: number): Promise<boolean> {
  const words = pid > 0 ? await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '') : '';
  return words.includes('sallyport-fence-guard');
}

async function outcome(base: string): Promise<'kept' | 'restored'> {
  await rm(`${base}.guard`, { force: true });
  if (await isThere(`${base}.kept`)) {
    await rm(`${base}.kept`, { force: true });
    return 'kept';
  }
  if (!(await isThere(`${base}.restoring`)) && !(await isThere(`${base}.armed`))) return 'restored';
  throw new FenceError(
    'nft_failed',
    'the rules from before could not be put back',
    `the kernel refused them, or the guard was killed; they are in \`${base}.restoring\` or \`.armed\` for \`nft -f\``,
  );
}

async function isThere(path: string): Promise<boolean> {
  return await readFile(path).then(
    () => true,
    () => false,
  );
}
