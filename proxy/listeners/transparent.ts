// The transparent door: a client that knows nothing of a proxy takes it for the origin. It speaks TLS at once, and the server name of its hello is its
// request, or plain HTTP, and its Host is. Where it meant to go by address is not looked at: the name is judged, and the proxy resolves it itself.
import { targetOfHello, type Target } from '../../policy/index.ts';
import type { Conn } from '../conn/index.ts';
import { sniffHello } from '../sniff.ts';
import type { Arrival, Deps, Door, Inbound, Refusal } from '../types.ts';
import { firstProtocol } from './first-protocol.ts';
import { headFault } from './head-fault.ts';
import { httpInbound } from './http.ts';
import { originAskedBy, originHelp } from './http-target.ts';
import { inPlace } from './in-place.ts';
import { readHead } from './read-head.ts';

type Receive = (client: Conn, arrival: Arrival, timeoutMs: number) => Promise<Inbound | undefined>;

/** The door of one transparent port. */
export function transparentDoor(deps: Pick<Deps, 'settings' | 'waiting'>): Door {
  const { headBytes, headTimeoutMs, helloBytes, helloTimeoutMs } = deps.settings;
  const asHttp: Receive = async (client, arrival, timeoutMs) =>
    await receiveHttp(client, arrival, { maxBytes: headBytes, timeoutMs, again });
  const asEither: Receive = async (client, arrival, timeoutMs) => {
    const startedAt = performance.now();
    const protocol = await firstProtocol(client, { timeoutMs, signal: arrival.signal });
    const leftMs = Math.max(0, timeoutMs - (performance.now() - startedAt));
    return protocol === 'http'
      ? await asHttp(client, arrival, leftMs)
      : await receiveHello(client, arrival, { maxBytes: helloBytes, timeoutMs: leftMs });
  };
  const door = (receive: Receive, timeoutMs: number): Door['receive'] => {
    return async (client, arrival) =>
      await inPlace(
        arrival,
        deps.waiting,
        async () => await receive(client, arrival, timeoutMs),
        () => helloInbound(client, arrival, unread),
      );
  };
  const again: Door = { mode: 'http', isAgain: true, receive: door(asHttp, headTimeoutMs) };
  return { mode: 'transparent', receive: door(asEither, helloTimeoutMs) };
}

async function receiveHello(
  client: Conn,
  arrival: Arrival,
  limits: { readonly maxBytes: number; readonly timeoutMs: number },
): Promise<Inbound | undefined> {
  const { fact, bytes } = await sniffHello(client, { ...limits, signal: arrival.signal });
  // It left, or without a byte: it has asked for nothing.
  if (client.isGone || (fact.kind === 'closed' && bytes.length === 0 && !arrival.signal.aborted))
    return undefined;
  if (arrival.signal.aborted) return helloInbound(client, arrival, unread);
  // For the third gate and for the upstream.
  client.unread(bytes);
  return helloInbound(client, arrival, targetOfHello(fact, client.local.port));
}

async function receiveHttp(
  client: Conn,
  arrival: Arrival,
  { again, ...limits }: { readonly maxBytes: number; readonly timeoutMs: number; readonly again: Door },
): Promise<Inbound | undefined> {
  const read = await readHead(client, { ...limits, signal: arrival.signal });
  if (read.kind === 'gone') return undefined;
  const asked =
    read.kind === 'complete' ? originAskedBy(read.head, client.local.port) : headFault(read, originHelp);
  return httpInbound(client, arrival, asked, again);
}

const unread: Target = {
  kind: 'malformed',
  shown: '',
  problem: 'the hello was not read',
  help: 'try again later',
};

function helloInbound(client: Conn, { principal }: Arrival, target: Target): Inbound {
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

/** RFC 8446 §6, in the clear: a client that has seen no ServerHello yet reads it. */
const accessDenied = 49;
const internalError = 80;

/** A verdict is `access_denied`; what may work later, or was the world's doing, is `internal_error`, so that the two are never mixed up. */
function alertOf({ body }: Refusal): Buffer {
  const description = body.retry === 'none' ? accessDenied : internalError;
  // Record type 21, version 0x0303 as every TLS 1.2 and 1.3 record has it, two bytes: fatal, and what.
  return Buffer.of(21, 3, 3, 0, 2, 2, description);
}
