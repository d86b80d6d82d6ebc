// Sends the probes that come from this machine, or by the witness pair from beyond it: datagrams that the observer's table makes into what
// the table of probes says.
import { createSocket, type Socket } from 'node:dgram';
import type { Resource } from '../resource.ts';
import type { Marked } from './observer.ts';
import { payloadOf } from './packet.ts';

/** Sends from here. */
export interface HostSender extends Resource {
  /** Resolves when all of one probe is with the kernel: with '' or the kernel's word. */
  send(marked: Marked): Promise<string>;
}

/** Opens a socket of each family that is there. */
export function openHostSender(hasSix: boolean): HostSender {
  const sockets = { 4: openSocket('udp4'), 6: hasSix ? openSocket('udp6') : undefined };
  return {
    name: 'host sender',
    async send({ probe, mark }) {
      const socket = sockets[probe.family];
      if (socket === undefined) return 'EAFNOSUPPORT';
      const payload = payloadOf(mark, probe.packet);
      const errors = probe.packet.ports.map((port) =>
        sendOne(socket, payload, { port, to: probe.packet.to }),
      );
      return (await Promise.all(errors)).find((error) => error !== '') ?? '';
    },
    release() {
      sockets[4].close();
      sockets[6]?.close();
    },
  };
}

function openSocket(type: 'udp4' | 'udp6'): Socket {
  const socket = createSocket(type);
  socket.on('error', () => undefined);
  return socket;
}

async function sendOne(
  socket: Socket,
  payload: Buffer,
  { port, to }: { readonly port: number; readonly to: string },
): Promise<string> {
  return await new Promise((resolve) => {
    socket.send(payload, port, to, (error) => resolve(wordOf(error)));
  });
}

/** A drop on the way out is told to a sender of the same machine as EPERM: the packet was made, and the hook has seen it. */
function wordOf(error: Error | null): string {
  if (error === null || ('code' in error && error.code === 'EPERM')) return '';
  return error.message;
}
