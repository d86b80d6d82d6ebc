// Takes a connected socket from Node so that another may own its descriptor: what was read comes out, what was written goes on.
// `_handle.fd` is no public interface of Node; a socket that does not have it as expected is simply not taken.
import type { Socket } from 'node:net';

/** The part of Node's TCP handle that a hand-over needs. */
export interface TcpHandle {
  readonly fd: number;
  /** Node's note of whether it reads. */
  reading: boolean;
  readStop(): unknown;
}

/** The handle of a live TCP socket whose both halves are still Node's; undefined for a dead one, TLS, or a unix socket. */
export function handleOf(socket: Socket): TcpHandle | undefined {
  if (socket.destroyed || socket.errored !== null || socket.connecting || socket.writableEnded)
    return undefined;
  const handle: unknown = Reflect.get(socket, '_handle');
  return isTcpHandle(handle) ? handle : undefined;
}

function isTcpHandle(handle: unknown): handle is TcpHandle {
  if (typeof handle !== 'object' || handle === null || handle.constructor.name !== 'TCP') return false;
  if (!('fd' in handle) || typeof handle.fd !== 'number' || handle.fd < 0) return false;
  return 'readStop' in handle && typeof handle.readStop === 'function';
}

/** Stops `socket` from reading, for good, and returns what it has read. What is still in the kernel stays there. */
export function takeUnread(socket: Socket, handle: TcpHandle): readonly Buffer[] {
  handle.readStop();
  handle.reading = false;
  // Taking the buffered bytes would otherwise start the next read.
  Object.assign(socket, { _read() {} });
  // A FIN among them must not be answered with a FIN.
  socket.allowHalfOpen = true;
  socket.pause();
  const chunks: Buffer[] = [];
  for (;;) {
    // Node 26 gives one chunk at a time.
    const chunk: unknown = socket.read();
    if (!Buffer.isBuffer(chunk)) return chunks;
    chunks.push(chunk);
  }
}

/** Whether all that was written is in the kernel. */
export function isFlushed(socket: Socket): boolean {
  return socket.writableLength === 0 && !socket.destroyed && socket.errored === null;
}

/** Calls `then` once all that was written to every socket is in the kernel; never when one of them fails. */
export function whenFlushed(sockets: readonly Socket[], then: () => void): void {
  const waiting = new Set(sockets);
  for (const socket of sockets) {
    // Writes end in order, so an empty one ends last.
    socket.write('', (error) => {
      if (error !== undefined && error !== null) return;
      waiting.delete(socket);
      if (waiting.size === 0) then();
    });
  }
}
