// The proxy port: three protocols on it, told apart by the first byte. Holds what is common to them: a place to wait in, and the limits of
// what is read before anything is asked. What a protocol says and how it is answered is in the file of its name.
import type { Target } from '../../policy/index.ts';
import type { Conn } from '../conn/index.ts';
import type { Arrival, Deps, Door, Inbound } from '../types.ts';
import { connectInbound } from './connect.ts';
import { askedBy } from './connect-target.ts';
import { readFirst } from './first-bytes.ts';
import type { HeadLimits } from './read-head.ts';
import { receiveSocks5, unreadSocks5 } from './socks5.ts';
import { socksVersion } from './socks5-frames.ts';

/** The door of one proxy port. A client that has not asked yet counts as one of `connect`. */
export function proxyDoor({ settings, waiting }: Pick<Deps, 'settings' | 'waiting'>): Door {
  const { headBytes: maxBytes, headTimeoutMs: timeoutMs } = settings;
  return {
    mode: 'connect',
    async receive(client, arrival) {
      const place = waiting.acquire(arrival.principal?.name ?? '');
      if (!place.ok) return { ...turnAway(client, arrival), turnedAway: place.reason };
      try {
        return await receive(client, arrival, { maxBytes, timeoutMs, signal: arrival.signal });
      } finally {
        place.release();
      }
    },
  };
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

async function receive(client: Conn, arrival: Arrival, limits: HeadLimits): Promise<Inbound | undefined> {
  const startedAt = performance.now();
  const first = await readFirst(client, limits);
  if (first.protocol === 'socks5') {
    const timeoutMs = Math.max(0, limits.timeoutMs - (performance.now() - startedAt));
    return await receiveSocks5(client, arrival, first.greeting, { ...limits, timeoutMs });
  }
  return first.read.kind === 'gone' ? undefined : connectInbound(client, arrival, askedBy(first.read));
}
