// Reads the first bytes of a client and says what they are, within a byte and a time limit. Sends nothing anywhere and loses
// nothing: what was read is handed back, the rest stays in the paused socket.
import type { Socket } from 'node:net';
import type { ServerNameFact } from '../policy/index.ts';
import { createHelloReader, type HelloResult } from './client-hello.ts';
import { hearErrors } from './sockets.ts';

/** What the client's first bytes say, and those bytes: all that was read, to be forwarded first. */
export interface Sniffed {
  readonly fact: ServerNameFact;
  readonly bytes: Buffer;
}

export interface SniffOptions {
  /** Longest hello, record headers included. */
  readonly maxBytes: number;
  /** For the whole hello, so that a client cannot stretch it byte by byte. */
  readonly timeoutMs: number;
  /** Ends the wait with the fact `closed`. */
  readonly signal?: AbortSignal;
}

/**
 * The server name fact of `client`, whose stream begins with `already`. Leaves the socket paused. Never rejects: a client
 * that leaves or resets is the fact `closed`, one that stays silent is `timeout`.
 */
export async function sniffHello(client: Socket, already: Buffer, options: SniffOptions): Promise<Sniffed> {
  hearErrors(client);
  const reader = createHelloReader(options.maxBytes);
  const fact = factOf(reader.push(already));
  if (fact !== undefined) return { fact, bytes: already };
  const chunks = [already];
  const last = await readUntil(client, options, (chunk) => {
    chunks.push(chunk);
    return factOf(reader.push(chunk));
  });
  return { fact: last, bytes: Buffer.concat(chunks) };
}

/** What a hello says to the third gate; undefined while it is not whole. */
export function factOf(result: HelloResult): ServerNameFact | undefined {
  switch (result.kind) {
    case 'need_more':
      return undefined;
    case 'not_tls':
      return { kind: 'not_tls' };
    case 'malformed':
      return { kind: 'malformed', problem: result.problem };
    case 'complete':
      return namedFact(result.serverName, result.ech);
    default:
      return result satisfies never;
  }
}

function namedFact(name: string | null, ech: boolean): ServerNameFact {
  return name === null ? { kind: 'no_server_name', ech } : { kind: 'server_name', name, ech };
}

/** Feeds `look` until it knows, or until the client, the clock or the signal ends the wait. */
function readUntil(
  client: Socket,
  { timeoutMs, signal }: SniffOptions,
  look: (chunk: Buffer) => ServerNameFact | undefined,
): Promise<ServerNameFact> {
  const { promise, resolve } = Promise.withResolvers<ServerNameFact>();
  if (client.destroyed || client.readableEnded || signal?.aborted === true) {
    resolve({ kind: 'closed' });
    return promise;
  }
  const onData = (chunk: Buffer): void => {
    const fact = look(chunk);
    if (fact !== undefined) settle(fact);
  };
  const onGone = (): void => settle({ kind: 'closed' });
  const timer = setTimeout(() => settle({ kind: 'timeout' }), timeoutMs);
  const settle = (fact: ServerNameFact): void => {
    // Pause first: a socket without a data listener would otherwise flow and lose bytes.
    client.pause();
    clearTimeout(timer);
    client.off('data', onData).off('end', onGone).off('close', onGone);
    signal?.removeEventListener('abort', onGone);
    resolve(fact);
  };
  client.on('data', onData).on('end', onGone).on('close', onGone);
  signal?.addEventListener('abort', onGone);
  client.resume();
  return promise;
}
