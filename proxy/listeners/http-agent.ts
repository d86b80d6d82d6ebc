// undici as one exchange uses it: it writes one request to a socket that it is given and reads the answer. Opens nothing.
import type { Socket } from 'node:net';
import type { Client } from 'undici';
import { resetSocket } from '../sockets.ts';

type Callback = (...result: [null, Socket] | [Error, null]) => void;

/** For one request to `host` over `socket`: undici has no other way out. */
export async function agentOver(host: string, socket: Socket): Promise<Client> {
  const connect = (_: unknown, callback: Callback): void => {
    // Later: undici does not go on by itself after an answer within the call.
    setImmediate(() => {
      if (socket.destroyed) callback(new Error('the connection is gone'), null);
      else callback(null, socket);
    });
  };
  const { Client: Agent } = await loadHttpAgent();
  return new Agent(`http://${host}`, { ...options, connect });
}

/** 90 ms the first time: not for a proxy whose policy has no plain HTTP, unless it must be now. */
export async function loadHttpAgent(): Promise<typeof import('undici')> {
  return await import('undici');
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
