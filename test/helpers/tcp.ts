// Real TCP on loopback for tests: a listener that hands out its clients, and what a socket says.
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';

export interface Listening extends AsyncDisposable {
  readonly port: number;
  /** The next client, paused, half-open allowed, error heard. */
  accept(): Promise<Socket>;
}

/** A server on a free loopback port. Disposing closes it and every client it took. */
export async function listen(host = '127.0.0.1', port = 0): Promise<Listening> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
  const clients: Socket[] = [];
  const waiting: Socket[] = [];
  const wanted: ((socket: Socket) => void)[] = [];
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    clients.push(socket);
    const taker = wanted.shift();
    if (taker === undefined) waiting.push(socket);
    else taker(socket);
  });
  server.listen(port, host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async accept() {
      const socket = waiting.shift();
      return socket ?? (await new Promise<Socket>((resolve) => wanted.push(resolve)));
    },
    async [Symbol.asyncDispose]() {
      for (const socket of clients) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Everything `socket` says until its FIN; rejects when it is reset. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.once('end', () => resolve(Buffer.concat(chunks)));
  socket.once('error', reject);
  socket.once('close', () => reject(new Error('closed before its FIN')));
  socket.resume();
  return await promise;
}

/** Reads `socket` until it is reset (true) or says FIN (false). */
export async function wasReset(socket: Socket): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once('error', () => resolve(true));
  socket.once('end', () => resolve(false));
  socket.once('close', (hadError: boolean) => resolve(hadError));
  if (socket.destroyed) resolve(socket.errored !== null);
  socket.resume();
  return await promise;
}

/** Sockets that this process holds open now. */
export function openSockets(): number {
  return readdirSync('/proc/self/fd').filter((fd) => isSocket(`/proc/self/fd/${fd}`)).length;
}

function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith('socket:');
  } catch {
    return false;
  }
}

/** A port that is free now, for a listener that must be named before it is open. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
