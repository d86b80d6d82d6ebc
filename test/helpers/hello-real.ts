// Catches the ClientHello that real TLS stacks send, at run time, over loopback. Never completes a handshake.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { connect, type ConnectionOptions } from 'node:tls';
import { listen } from './tcp.ts';

/** The first flight of Node's own TLS client. */
export async function nodeHello(options: ConnectionOptions): Promise<Buffer> {
  return await catchHello((port) => {
    const client = connect({ host: '127.0.0.1', port, ...options });
    client.on('error', () => {});
    return () => client.destroy();
  });
}

/** The first flight of `openssl s_client` with these arguments, such as `-servername a.test`. */
export async function opensslHello(args: readonly string[]): Promise<Buffer> {
  return await catchHello((port) => {
    const all = ['s_client', '-connect', `127.0.0.1:${port}`, ...args];
    const child = spawn('openssl', all, { stdio: 'ignore' });
    return () => child.kill();
  });
}

async function catchHello(start: (port: number) => () => unknown): Promise<Buffer> {
  await using server = await listen();
  const stop = start(server.port);
  const client = await server.accept();
  try {
    return await firstRecord(client);
  } finally {
    client.destroy();
    stop();
  }
}

/** Real clients put their hello in one record; its header says when it is whole. */
async function firstRecord(client: Socket): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  client.resume();
  while (bytes.length < 5 || bytes.length < 5 + bytes.readUInt16BE(3)) {
    const [chunk] = (await once(client, 'data')) as [Buffer];
    bytes = Buffer.concat([bytes, chunk]);
  }
  return bytes;
}
