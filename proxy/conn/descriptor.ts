// What is said of descriptors in numbers, and a socket of Node's over one. Linux only, as the engine is.
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { hearErrors } from '../sockets.ts';

/** "Nothing now". */
export const eagain = constants.errno.EAGAIN;

/** `ECONNREFUSED` and its like, for an errno. */
export function codeOf(errno: number): string {
  return getSystemErrorName(-errno);
}

/** A paused socket that owns `fd`, half-open allowed, errors heard; a closed one for a descriptor that is no more (-1). */
export function socketOver(fd: number): Socket {
  const socket = fd < 0 ? new Socket() : new Socket({ fd, allowHalfOpen: true });
  hearErrors(socket);
  socket.pause();
  if (fd < 0) socket.destroy();
  return socket;
}
