// Binds a server to a unix socket that only its owner can open. Replaces a dead socket, and never anything else.
import { lstat, unlink } from 'node:fs/promises';
import type { Server } from 'node:http';
import { connect } from 'node:net';

/** The admin socket cannot be made. */
export class AdminUnavailable extends Error {
  readonly code = 'admin_unavailable';
  readonly help = 'give --admin another path, in a folder that this user may write';

  constructor(path: string, problem: string, cause?: unknown) {
    super(`admin socket \`${path}\`: ${problem}`, { cause });
    this.name = 'AdminUnavailable';
  }
}

// sun_path of unix(7), less its final NUL.
const maxPathBytes = 107;

/** Listens at `path` with mode 0600. Rejects with AdminUnavailable when something lives there. */
export async function listenOnPath(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > maxPathBytes) {
    throw new AdminUnavailable(path, `longer than ${maxPathBytes} bytes`);
  }
  await removeDeadSocket(path);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', (error) => reject(new AdminUnavailable(path, error.message, error)));
  // listen() binds before it returns; a mode set after it would leave a moment for others.
  const mask = process.umask(0o177);
  try {
    server.listen(path, resolve);
  } finally {
    process.umask(mask);
  }
  await promise;
}

async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) {
    if (found.code === 'ENOENT') return;
    throw new AdminUnavailable(path, found.message, found);
  }
  if (!found.isSocket()) throw new AdminUnavailable(path, 'something else is there and is left alone');
  if (await answers(path)) throw new AdminUnavailable(path, 'in use by another proxy');
  await unlink(path);
}

/** Only a refused connection proves that nobody listens. */
async function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once('connect', () => resolve(true));
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  const isAlive = await promise;
  socket.destroy();
  return isAlive;
}
