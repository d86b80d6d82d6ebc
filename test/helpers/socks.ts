// A SOCKS5 client of the proxy under test: makes frames, sends them as they are, reads the answers. Not a SOCKS library.
import type { Socket } from 'node:net';
import { dialProxy, readBytes } from './proxy-client.ts';

/** "No authentication" is all that is offered. */
export const greeting = Buffer.of(5, 1, 0);

/** A CONNECT request by name; the name is sent as its UTF-8 bytes, whatever they are. At most 255. */
export function nameRequest(name: string | Buffer, port: number): Buffer {
  const bytes = Buffer.from(name);
  return Buffer.concat([Buffer.of(5, 1, 0, 3, bytes.length), bytes, portBytes(port)]);
}

/** A CONNECT request by the 4 or 16 bytes of an address. */
export function addressRequest(bytes: Uint8Array, port: number): Buffer {
  return Buffer.concat([Buffer.of(5, 1, 0, bytes.length === 4 ? 1 : 4), bytes, portBytes(port)]);
}

function portBytes(port: number): Buffer {
  return Buffer.of(port >> 8, port & 0xff);
}

export interface SocksAnswer {
  /** The method chosen; undefined when the proxy closed first. */
  readonly method: number | undefined;
  /** The reply code; undefined when there was none. */
  readonly reply: number | undefined;
  readonly socket: Socket;
  /** `address:port` of this client, as the audit has it. */
  readonly peer: string;
}

/** Sends the greeting, `request` and `after` in one piece, and reads both answers. */
export async function socksConnect(
  port: number,
  request: Buffer,
  after: Buffer = Buffer.alloc(0),
): Promise<SocksAnswer> {
  const socket = await dialProxy(port);
  socket.write(Buffer.concat([greeting, request, after]));
  return await readSocksAnswer(socket);
}

/** The method, then the reply of ten bytes. After a no the socket is destroyed. */
async function readSocksAnswer(socket: Socket): Promise<SocksAnswer> {
  const peer = `127.0.0.1:${socket.localPort}`;
  const [, method] = await readExactly(socket, 2);
  const [, reply] = method === 0 ? await readExactly(socket, 10) : [];
  if (reply !== 0) socket.destroy();
  return { method, reply, socket, peer };
}

/** What comes too much is put back. */
async function readExactly(socket: Socket, length: number): Promise<Buffer> {
  const bytes = await readBytes(socket, length);
  if (bytes.length > length) socket.unshift(bytes.subarray(length));
  return bytes.subarray(0, length);
}
