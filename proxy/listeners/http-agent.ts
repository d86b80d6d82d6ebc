// undici as one exchange uses it: it writes one request to a socket that it is given and reads the answer. Opens nothing that leads anywhere.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Client } from 'undici';
import { hearErrors, resetSocket } from '../sockets.ts';

type Callback = (...result: [null, Socket] | [Error, null]) => void;

/** For one request to `host` over `socket`: undici has no other way out. */
export async function agentOver(host: string, socket: Socket): Promise<Client> {
  const lend = (_: unknown, callback: Callback): void => {
    // Later: undici does not go on by itself after an answer within the call.
    setImmediate(() => {
      if (socket.destroyed) callback(new Error('the connection is gone'), null);
      else callback(null, socket);
    });
  };
  // 90 ms to load: at the first request, unless root was given up (warmHttpAgent).
  const { Client: Agent } = await import('undici');
  return new Agent(`http://${host}`, { ...options, connect: lend });
}

/** One exchange with ourselves: what undici reads from disk when it is first used, its parser among it, is read now. */
export async function warmHttpAgent(): Promise<void> {
  const server = createServer((socket) => {
    hearErrors(socket);
    socket.end('HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n');
  });
  // An abstract name (unix(7)): no file, and of this network namespace alone.
  const path = `\0sallyport-${process.pid}-${randomUUID()}`;
  await once(server.listen(path), 'listening');
  const socket = connect(path);
  hearErrors(socket);
  await once(socket, 'connect');
  const agent = await agentOver('warm.invalid', socket);
  const { body } = await agent.request({ method: 'GET', path: '/' });
  await body.dump();
  await agent.destroy();
  server.close();
}

/** Time and size limits are ours; undici has one request to send, and no second try. */
const options = { pipelining: 1, headersTimeout: 0, bodyTimeout: 0, maxHeaderSize: 65_536 } as const;

/**
 * Resets the socket of an agent. The agent hears of an error first: a socket that closes without one is the end of the answer to it, and when the request has
 * failed meanwhile, that is a failed assertion in an event, where nobody catches.
 */
export function breakOff(socket: Socket): void {
  socket.emit('error', new Error('the exchange is over'));
  resetSocket(socket);
}
