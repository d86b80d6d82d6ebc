// Two things every holder of a socket must do right: hear its errors, and reset it without leaking its descriptor.
import type { Socket } from 'node:net';

/**
 * Gives `socket` one error listener for life, so that a reset at any moment cannot become an uncaught exception that
 * takes all tunnels down. Idempotent. What an error means is for whoever reads or writes the socket.
 */
export function hearErrors(socket: Socket): void {
  if (!socket.listeners('error').includes(ignore)) socket.on('error', ignore);
}

/**
 * Closes `socket` with a RST, whatever its state; safe to call twice.
 * While a shutdown is in flight libuv refuses to reset (EINVAL) and Node 26 then drops the handle without closing it,
 * which leaks the descriptor for ever; its FIN is promised by then, so the socket is closed plainly.
 */
export function resetSocket(socket: Socket): void {
  hearErrors(socket);
  if (socket.destroyed) return;
  if (isShuttingDown(socket)) socket.destroy();
  else resetOrDestroy(socket);
}

function isShuttingDown(socket: Socket): boolean {
  return socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
}

function resetOrDestroy(socket: Socket): void {
  try {
    socket.resetAndDestroy();
  } catch {
    // Only TCP can be reset: a unix socket throws.
    socket.destroy();
  }
}

function ignore(): void {}
