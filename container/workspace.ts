// Judges the directory that `--workspace` would make writable inside the sandbox. It mounts nothing.
import { lstat, readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { printable } from './names.ts';
import { RunRefused } from './refusal.ts';

/** Trees that hold the system, its sockets or its secrets. A directory inside one is refused; so is a parent of one. */
const systemTrees = [
  '/bin',
  '/boot',
  '/dev',
  '/etc',
  '/lib',
  '/lib32',
  '/lib64',
  '/libx32',
  '/nix',
  '/proc',
  '/root/.ssh',
  '/run',
  '/sbin',
  '/sys',
  '/usr',
  '/var',
] as const;

/** Entries of a directory that are looked at for sockets; more than this in one directory is not searched further. */
const maxEntries = 10_000;

/** The real path of a workspace. Throws RunRefused (usage, 2) when it is not a plain directory of the user's. */
export async function checkWorkspace(path: string): Promise<string> {
  const real = await realpath(resolve(path)).catch(() => undefined);
  if (real === undefined) throw refuse(path, 'does not exist', 'make it first: mkdir -p DIR');
  const info = await stat(real);
  if (info.isSocket())
    throw refuse(path, 'is a socket', 'a socket of the host is a way out; use --service for a named one');
  if (!info.isDirectory()) throw refuse(path, 'is not a directory', 'give a directory');
  const tree = real === '/' ? '/' : systemTrees.find((one) => isWithin(real, one) || isWithin(one, real));
  if (tree !== undefined)
    throw refuse(
      path,
      `is, or holds, the system's \`${tree}\``,
      'use a directory of your own, such as ~/project',
    );
  const socket = await findSocket(real);
  if (socket !== undefined)
    throw refuse(
      path,
      `holds the socket \`${printable(socket)}\``,
      'move the socket: it would be a way out of the sandbox',
    );
  return real;
}

function isWithin(path: string, tree: string): boolean {
  return path === tree || path.startsWith(`${tree}/`);
}

/** A socket in the directory itself or one level below (ssh-agent, gpg-agent and X11 put theirs there). */
async function findSocket(directory: string): Promise<string | undefined> {
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries.slice(0, maxEntries)) {
    const path = join(directory, entry.name);
    if (entry.isSocket()) return path;
    if (!entry.isDirectory()) continue;
    const below = await readdir(path, { withFileTypes: true }).catch(() => []);
    const found = below.slice(0, maxEntries).find((one) => one.isSocket());
    if (found !== undefined) return join(path, found.name);
  }
  return undefined;
}

/** True when uid `uid` owns the directory or it is open to all; otherwise the command cannot write in it. */
export async function isWritableBy(path: string, uid: number): Promise<boolean> {
  const info = await lstat(path);
  return info.uid === uid
    ? (info.mode & 0o300) === 0o300
    : (info.mode & 0o003) === 0o003 && dirname(path) !== path;
}

function refuse(path: string, problem: string, help: string): RunRefused {
  return new RunRefused('usage', `workspace \`${printable(path)}\` ${problem}`, help);
}
