// The transparent door: a client that knows nothing of a proxy speaks TLS at once, and the server name of its hello is its request. Where
// it meant to go by address is not looked at: the name is judged, and the proxy resolves it itself.
import { targetOfHello, type Target } from '../../policy/index.ts';
import type { Conn } from '../conn/index.ts';
import { sniffHello } from '../sniff.ts';
import type { Arrival, Deps, Door, Inbound, Refusal } from '../types.ts';
import { refusalText } from './connect.ts';

/** The hello is given back to the connection, for the third gate and for the upstream. */
export function transparentDoor({ settings, waiting }: Pick<Deps, 'settings' | 'waiting'>): Door {
  const { helloBytes: maxBytes, helloTimeoutMs: timeoutMs } = settings;
  return {
    mode: 'transparent',
    async receive(client, arrival) {
      const place = waiting.acquire(arrival.principal?.name ?? '');
      if (!place.ok) return { ...inboundOf(client, arrival, unread), turnedAway: place.reason };
      const { fact, bytes } = await sniffHello(client, { maxBytes, timeoutMs, signal: arrival.signal });
      place.release();
      // It left, or without a byte: it has asked for nothing.
      if (client.isGone || (fact.kind === 'closed' && bytes.length === 0 && !arrival.signal.aborted))
        return undefined;
      if (arrival.signal.aborted) return inboundOf(client, arrival, unread);
      client.unread(bytes);
      const inbound = inboundOf(client, arrival, targetOfHello(fact, client.local.port));
      return fact.kind === 'not_tls' && isHttp(bytes) ? { ...inbound, refuse: inHttp(client) } : inbound;
    },
  };
}

const unread: Target = {
  kind: 'malformed',
  shown: '',
  problem: 'the hello was not read',
  help: 'try again later',
};

function inboundOf(client: Conn, { principal }: Arrival, target: Target): Inbound {
  return {
    request: { principal, target, mode: 'transparent' },
    client,
    // The client waits for a server's hello, and the next bytes it reads are that.
    accept() {},
    refuse(why) {
      if (client.isEnded) client.reset();
      else client.end(alertOf(why));
    },
  };
}

/** Plain HTTP is not carried here, and a browser or curl reads no alert. */
function isHttp(bytes: Buffer): boolean {
  return /^[A-Z]{3,8} \//u.test(bytes.toString('latin1', 0, 16));
}

function inHttp(client: Conn): Inbound['refuse'] {
  return (why) => {
    if (client.isEnded) client.reset();
    else client.end(refusalText(why));
  };
}

/** RFC 8446 §6, in the clear: a client that has seen no ServerHello yet reads it. */
const accessDenied = 49;
const internalError = 80;

/** A verdict is `access_denied`; what may work later, or was the world's doing, is `internal_error`, so that the two are never mixed up. */
function alertOf({ body }: Refusal): Buffer {
  const description = body.retry === 'none' ? accessDenied : internalError;
  // Record type 21, version 0x0303 as every TLS 1.2 and 1.3 record has it, two bytes: fatal, and what.
  return Buffer.of(21, 3, 3, 0, 2, 2, description);
}
