// A plain-HTTP origin on loopback that keeps every head it was sent, as its parser read it, and every byte. Answers as the test says.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';

export interface Seen {
  readonly method: string;
  readonly url: string;
  /** Names in lower case and values in turn, in order. */
  readonly fields: readonly string[];
  readonly body: string;
}

export interface HttpOrigin {
  readonly port: number;
  readonly seen: readonly Seen[];
  /** All bytes that reached it. */
  received(): Buffer;
}

export type Answerer = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** The default answer is 200 with the path. */
export async function startHttpOrigin(t: Test, answer: Answerer = echoPath): Promise<HttpOrigin> {
  const seen: Seen[] = [];
  const received: Buffer[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('end', () => {
      const body = Buffer.concat(chunks).toString();
      const fields = request.rawHeaders.map((part, i) => (i % 2 === 0 ? part.toLowerCase() : part));
      seen.push({ method: request.method ?? '', url: request.url ?? '', fields, body });
      answer(request, response, body);
    });
  });
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => received.push(chunk));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen, received: () => Buffer.concat(received) };
}

function echoPath(request: IncomingMessage, response: ServerResponse): void {
  response.end(`you asked for ${request.url}`);
}
