// Judges the directory that `--workspace` would make writable inside the sandbox. It mounts nothing.
import type { Dirent } from 'node:fs';
import { lstat, readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Workspace } from './backends/index.ts';
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

/** Where everybody's directories and sockets lie side by side: one inside is fine, the whole is not. */
const shared: ReadonlySet<string> = new Set(['/', '/home', '/tmp']);

/** Files that are looked at for sockets: some seconds of work, and more than a large checkout with its packages has. */
const maxEntries = 1_000_000;

/**
 * A workspace by its real path. Throws RunRefused (usage, 2) when it is not a plain directory of the user's, or holds a socket, or holds
 * more than `limit` files.
 */
export async function checkWorkspace(path: string, limit = maxEntries): Promise<Workspace> {
  const real = await realpath(resolve(path)).catch(() => undefined);
  if (real === undefined) throw refuse(path, 'does not exist', 'make it first: mkdir -p DIR');
  const info = await stat(real, { bigint: true });
  if (info.isSocket())
    throw refuse(path, 'is a socket', 'a socket of the host is a way out; use --service for a named one');
  if (!info.isDirectory()) throw refuse(path, 'is not a directory', 'give a directory');
  const tree = shared.has(real)
    ? real
    : systemTrees.find((one) => isWithin(real, one) || isWithin(one, real));
  if (tree !== undefined)
    throw refuse(
      path,
      `is, or holds, the system's \`${tree}\``,
      'use a directory of your own, such as ~/project',
    );
  const socket = await findSocket(real, limit);
  if (socket !== undefined)
    throw refuse(
      path,
      `holds the socket \`${printable(socket)}\``,
      'move the socket: it would be a way out of the sandbox',
    );
  return { path: real, identity: `${info.dev}:${info.ino}` };
}

function isWithin(path: string, tree: string): boolean {
  return path === tree || path.startsWith(`${tree}/`);
}

/** A socket anywhere below. Links are not followed: inside the sandbox they lead nowhere else. One that is made later is not seen. */
async function findSocket(root: string, limit: number): Promise<string | undefined> {
  let seen = 0;
  const folders = [root];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const entries = await listFolder(root, folder);
    seen += entries.length;
    if (seen > limit)
      throw refuse(
        root,
        `holds more than ${limit} files, too many to look at each`,
        'a socket among them would be a way out; give a smaller directory',
      );
    const socket = entries.find((entry) => entry.isSocket());
    if (socket !== undefined) return join(folder, socket.name);
    for (const entry of entries) if (entry.isDirectory()) folders.push(join(folder, entry.name));
  }
  return undefined;
}

/** What cannot be looked into may hold anything; what has gone meanwhile holds nothing. */
async function listFolder(root: string, folder: string): Promise<readonly Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw refuse(
      root,
      `cannot be searched for sockets at \`${printable(folder)}\``,
      'let the caller read it, or give another directory',
    );
  }
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
