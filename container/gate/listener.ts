// A port on which this machine really listens, for the probe that must not be heard there. Touched once by the machine itself: it does answer.
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import type { Resource } from '../resource.ts';

const limitMs = 3000;

/** The port, and how often somebody came: once is the machine's own visit. */
export interface Listener extends Resource {
  readonly port: number;
  touches(): number;
}

/** Listens at `address` and pays the visit. */
export async function openListener(address: string): Promise<Listener> {
  let touches = 0;
  const server = createServer((socket) => {
    touches += 1;
    socket.on('error', () => undefined);
    socket.end();
  });
  server.on('error', () => undefined);
  server.listen(0, address);
  await once(server, 'listening');
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  await visit(port, address);
  return {
    name: 'host port',
    port,
    touches: () => touches,
    release: () => {
      server.close();
    },
  };
}

/** It ends in time whatever a rule of somebody else's does to it: then nobody was heard, which fails the probe. */
export async function visit(port: number, address: string): Promise<void> {
  const control = connect({ port, host: address, timeout: limitMs });
  const end = (): void => void control.destroy();
  control.on('timeout', end).on('error', end).resume();
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  control.once('close', () => resolve());
  await closed;
}
