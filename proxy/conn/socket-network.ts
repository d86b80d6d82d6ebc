// Connections by node:net. The network that always works.
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import type { Endpoint } from '../endpoint.ts';
import { hearErrors } from '../sockets.ts';
import { SocketConn } from './socket-conn.ts';
import type { Accepting, Connecting, ListenAt, Network } from './types.ts';

/** Bytes of a connection that Node reads ahead, beyond the read that is under way (64 KiB at most). */
const earlyBytes = 16_384;

export function createSocketNetwork(): Network {
  return {
    name: 'node',
    async listen(at, on) {
      const server = serverFor(on);
      const { address, port } = await bound(server, at);
      server.on('error', (error) => on.failed(error));
      return { address, port, close: () => void server.close() };
    },
    connect: (address, port, on) => attempt({ address: address.text, port }, address.family, on),
    close() {},
  };
}

function serverFor(on: Accepting): Server {
  return createServer({ allowHalfOpen: true, noDelay: true, highWaterMark: earlyBytes }, (socket) =>
    on.accepted(new SocketConn(socket)),
  );
}

function bound(server: Server, { address: host, port, fd }: ListenAt): Promise<AddressInfo> {
  const { promise, resolve, reject } = Promise.withResolvers<AddressInfo>();
  server.once('error', reject);
  server.listen(fd === undefined ? { host, port } : { fd }, () => {
    server.off('error', reject);
    const info = server.address();
    if (typeof info === 'object' && info !== null) resolve(info);
    else reject(new Error('bug: a listening server has no address'));
  });
  return promise;
}

function attempt({ address: host, port }: Endpoint, family: 4 | 6, on: Connecting): () => void {
  const socket = connect({ host, port, family, allowHalfOpen: true, noDelay: true, autoSelectFamily: false });
  hearErrors(socket);
  // Before it connects: else Node reads ahead.
  socket.pause();
  const onError = (error: Error): void => {
    socket.destroy();
    on.failed('code' in error ? String(error.code) : error.message);
  };
  socket.once('error', onError);
  socket.once('connect', () => {
    socket.off('error', onError);
    on.connected(new SocketConn(socket));
  });
  return () => {
    socket.off('error', onError);
    socket.destroy();
  };
}
