// The proxy port: three protocols on it, told apart by the first byte. Holds what is common to them: a place to wait in, and the limits of
// what is read before anything is asked. What a protocol says and how it is answered is in the file of its name.
import type { Target } from '../../policy/index.ts';
import type { Conn } from '../conn/index.ts';
import type { Arrival, Deps, Door, Inbound } from '../types.ts';
import { connectInbound } from './connect.ts';
import { askedBy } from './connect-target.ts';
import { readFirst } from './first-bytes.ts';
import { httpInbound } from './http.ts';
import { httpAskedBy } from './http-target.ts';
import { inPlace } from './in-place.ts';
import { readHead, type HeadLimits, type ReadHead } from './read-head.ts';
import { receiveSocks5, unreadSocks5 } from './socks5.ts';
import { socksVersion } from './socks5-frames.ts';

/** The door of one proxy port. A client that has not asked yet counts as one of `connect`. */
export function proxyDoor({ settings, waiting }: Pick<Deps, 'settings' | 'waiting'>): Door {
  const { headBytes: maxBytes, headTimeoutMs: timeoutMs } = settings;
  const door = (receive: typeof receiveFirst): Door['receive'] => {
    return async (client, arrival) =>
      await inPlace(
        arrival,
        waiting,
        async () =>
          await receive(client, arrival, { limits: { maxBytes, timeoutMs, signal: arrival.signal }, again }),
        () => turnAway(client, arrival),
      );
  };
  const again: Door = { mode: 'http', isAgain: true, receive: door(receiveAgain) };
  return { mode: 'connect', receive: door(receiveFirst) };
}

/** What is read, and where the client is received after that. */
interface Reading {
  readonly limits: HeadLimits;
  readonly again: Door;
}

const unread: Target = {
  kind: 'malformed',
  shown: '',
  problem: 'the request was not read',
  help: 'try again later',
};

/** Nothing is read for it, but what has come already may say in which protocol it hopes to be answered. */
function turnAway(client: Conn, arrival: Arrival): Inbound {
  const held = client.takeHeld();
  return held[0] === socksVersion
    ? unreadSocks5(client, arrival, unread)
    : connectInbound(client, arrival, { target: unread });
}

async function receiveFirst(
  client: Conn,
  arrival: Arrival,
  { limits, again }: Reading,
): Promise<Inbound | undefined> {
  const startedAt = performance.now();
  const first = await readFirst(client, limits);
  if (first.protocol === 'http') return httpAsking(client, arrival, first.read, again);
  const timeoutMs = Math.max(0, limits.timeoutMs - (performance.now() - startedAt));
  return await receiveSocks5(client, arrival, first.greeting, { ...limits, timeoutMs });
}

/** A client that was served before speaks HTTP still. */
async function receiveAgain(
  client: Conn,
  arrival: Arrival,
  { limits, again }: Reading,
): Promise<Inbound | undefined> {
  return httpAsking(client, arrival, await readHead(client, limits), again);
}

/** Any method but CONNECT asks for an exchange; what is no head is told so as a CONNECT is. */
function httpAsking(client: Conn, arrival: Arrival, read: ReadHead, again: Door): Inbound | undefined {
  if (read.kind === 'gone') return undefined;
  return read.kind === 'complete' && read.head.method !== 'CONNECT'
    ? httpInbound(client, arrival, httpAskedBy(read.head), again)
    : connectInbound(client, arrival, askedBy(read));
}
