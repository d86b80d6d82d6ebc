// The descriptor a parent gives us: we say `ready` on it, and its end means that the parent is gone.
import { Socket } from 'node:net';
import { hearErrors } from './sockets.ts';

/** Writes `ready` to `fd`, and calls `onCut` once when the other end is closed, however that happened. */
export function holdLifeline(fd: number | null, onCut: () => void): { close(): void } {
  if (fd === null) return { close() {} };
  const line = new Socket({ fd, readable: true, writable: true });
  hearErrors(line);
  line.once('close', onCut).resume();
  line.write('ready\n');
  return {
    close() {
      line.off('close', onCut);
      line.destroy();
    },
  };
}
