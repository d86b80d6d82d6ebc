// A client of the proxy under test: sends bytes as they are, reads one HTTP answer, and keeps the socket. Not an HTTP library.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface Reply {
  /** 0 when the connection ended before a whole answer. */
  readonly status: number;
  readonly head: string;
  /** Lower-case names. */
  readonly headers: ReadonlyMap<string, string>;
  /** The JSON body; an empty object when there is none. */
  readonly body: Readonly<Record<string, unknown>>;
  readonly socket: Socket;
}

/** A connected socket whose errors are heard; half-open allowed. */
export async function dialProxy(port: number, localAddress?: string, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({
    port,
    host,
    allowHalfOpen: true,
    noDelay: true,
    ...(localAddress && { localAddress }),
  });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** `CONNECT authority` with a matching Host, and what else is given as header lines. */
export function connectHead(authority: string, lines: readonly string[] = []): string {
  return [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`, ...lines, '', ''].join('\r\n');
}

/** Reads the answer to what was sent, and closes after a refusal. After a 200 the socket is paused with the tunnel's bytes in it. */
export async function readReply(socket: Socket): Promise<Reply> {
  const reply = await readAnswer(socket);
  if (reply.status !== 200) socket.destroy();
  return reply;
}

async function readAnswer(socket: Socket): Promise<Reply> {
  const text = await readHeadText(socket);
  const end = text.indexOf('\r\n\r\n');
  if (end === -1) return { status: 0, head: text, headers: new Map(), body: {}, socket };
  const [first = '', ...lines] = text.slice(0, end).split('\r\n');
  const headers = new Map(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
  );
  const length = Number(headers.get('content-length') ?? 0);
  const body = length === 0 ? '{}' : await readBody(socket, text.slice(end + 4), length);
  return {
    status: Number(first.split(' ')[1]),
    head: text.slice(0, end),
    headers,
    body: JSON.parse(body) as Reply['body'],
    socket,
  };
}

async function readHeadText(socket: Socket): Promise<string> {
  let text = '';
  while (!text.includes('\r\n\r\n')) {
    const chunk = await nextChunk(socket);
    if (chunk === null) return text;
    text += chunk.toString('latin1');
  }
  return text;
}

async function readBody(socket: Socket, start: string, length: number): Promise<string> {
  let bytes = Buffer.from(start, 'latin1');
  while (bytes.length < length) {
    const chunk = await nextChunk(socket);
    if (chunk === null) break;
    bytes = Buffer.concat([bytes, chunk]);
  }
  return bytes.toString();
}

/** The next bytes of `socket`, left paused; null when it ended or was reset. */
export function nextChunk(socket: Socket): Promise<Buffer | null> {
  if (socket.destroyed || socket.readableEnded) return Promise.resolve(null);
  return new Promise((resolve) => {
    const settle = (chunk: Buffer | null): void => {
      socket.pause();
      socket.off('data', settle).off('end', onEnd).off('close', onEnd);
      resolve(chunk);
    };
    const onEnd = (): void => settle(null);
    socket.on('data', settle).on('end', onEnd).on('close', onEnd).resume();
  });
}

/** Exactly `length` bytes, or fewer when the stream ends. */
export async function readBytes(socket: Socket, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  while (size < length) {
    const chunk = await nextChunk(socket);
    if (chunk === null) break;
    chunks.push(chunk);
    size += chunk.length;
  }
  return Buffer.concat(chunks);
}

/** Settles when `socket` is closed, whoever did it and however. */
export async function closed(socket: Socket): Promise<void> {
  if (socket.closed) return;
  socket.resume();
  // A reset is an 'error' before the 'close'.
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
}
