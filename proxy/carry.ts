// The second half of a tunnel's story, design.md §6 steps 9 to 12: tell the client, read its hello, confirm the server name, relay.
// Nothing of the client has gone upstream when this begins. Moves no byte itself.
import { confirm, type Decision, type Grant, type ServerNameFact } from '../policy/index.ts';
import type { Conn } from './conn/index.ts';
import type { Dialled } from './dial.ts';
import { followHello, type Followed } from './hello-retry.ts';
import { checkStillAdmitted, enter, refuse, spent, type Opening } from './opening.ts';
import type { RelayEnd, RelayHandle } from './relay/index.ts';
import { sniffHello } from './sniff.ts';
import type { TunnelEnd } from './tunnel.ts';

/** Steps 9 to 12. Whatever happens, the upstream socket does not outlive this. */
export async function carry(
  { conn: upstream }: Dialled,
  granted: Grant,
  opening: Opening,
): Promise<TunnelEnd | RelayHandle> {
  const { inbound, tunnel } = opening;
  try {
    tunnel.signal.throwIfAborted();
    tunnel.stage = 'accept_reply';
    inbound.accept();
    const passed = await passHello(upstream, granted, opening);
    if ('verdict' in passed) return await refuse(passed, opening);
    if (passed.isSilent) return { cause: 'idle', reason: null };
    checkStillAdmitted(opening);
    return relay(upstream, passed, granted, opening);
  } finally {
    if (tunnel.state !== 'open') upstream.reset();
  }
}

/** What the relay has to begin with. */
type Passed = Pick<Followed, 'sent' | 'isSilent'>;

const nothingSent = { sent: { up: 0, down: 0 }, isSilent: false } as const;

/** Gate 3, for the first hello and for a second one if the server asks for it. A service is opaque and has no such gate. */
async function passHello(upstream: Conn, granted: Grant, opening: Opening): Promise<Passed | Decision> {
  const { inbound, tunnel, deps } = opening;
  if (granted.decision.protocol === 'tcp') return nothingSent;
  const first = await firstHello(granted, opening);
  if ('verdict' in first) return first;
  checkStillAdmitted(opening);
  // A budget that the hello alone exceeds ends the tunnel there, before an answer could matter.
  if (first.bytes.length > (granted.decision.limits.upBytes ?? Infinity)) {
    inbound.client.unread(first.bytes);
    return nothingSent;
  }
  const { helloBytes: maxBytes, helloTimeoutMs, idleTimeoutMs: answerTimeoutMs } = deps.settings;
  const sockets = { client: inbound.client, upstream, signal: tunnel.signal };
  const followed = await followHello({
    ...sockets,
    hello: first.bytes,
    maxBytes,
    helloTimeoutMs,
    answerTimeoutMs,
  });
  // Counted before anything can end the tunnel: these bytes are out.
  tunnel.sent = followed.sent;
  deps.observers.crossed(followed.sent.up, followed.sent.down);
  tunnel.signal.throwIfAborted();
  const confirmed = followed.fact === undefined ? undefined : judgeHello(followed.fact, granted, opening);
  return confirmed?.verdict === 'deny' ? confirmed : followed;
}

/** The first bytes of the client; nothing has gone upstream yet. */
async function firstHello(granted: Grant, opening: Opening): Promise<{ readonly bytes: Buffer } | Decision> {
  const { inbound, tunnel, deps } = opening;
  enter(tunnel, 'sniffing', 'sniff');
  const { helloBytes: maxBytes, helloTimeoutMs: timeoutMs } = deps.settings;
  const startedAt = performance.now();
  const sniffed = await sniffHello(inbound.client, {
    maxBytes,
    timeoutMs,
    signal: tunnel.signal,
  });
  tunnel.ms.hello = spent('sniff', startedAt, deps);
  // A client that leaves without a byte has asked for nothing: that is no verdict.
  if (sniffed.fact.kind === 'closed' && sniffed.bytes.length === 0)
    tunnel.stop({ cause: 'client_gone', reason: null });
  tunnel.signal.throwIfAborted();
  const confirmed = judgeHello(sniffed.fact, granted, opening);
  return confirmed.verdict === 'deny' ? confirmed : { bytes: sniffed.bytes };
}

function judgeHello(fact: ServerNameFact, granted: Grant, { tunnel }: Opening): Decision {
  tunnel.hello = fact;
  return confirm(granted, fact);
}

function relay(
  upstream: Conn,
  { sent }: Passed,
  granted: Grant,
  { inbound, tunnel, deps }: Opening,
): RelayHandle {
  const { upBytes: maxUpBytes, downBytes: maxDownBytes } = granted.decision.limits;
  const { client } = inbound;
  const { idleTimeoutMs } = deps.settings;
  const { crossed: onBytes } = deps.observers;
  tunnel.stage = 'relay';
  const handle = deps.relay.open({
    client,
    upstream,
    sent,
    idleTimeoutMs,
    maxUpBytes,
    maxDownBytes,
    onBytes,
  });
  tunnel.carry(handle);
  deps.observers.tunnelOpened();
  return handle;
}

const relayReasons = { limit_bytes: 'limit_bytes', upstream_error: 'upstream_reset' } as const;

/** How the relay's end is told. */
export function endOf({ cause, severReason }: RelayEnd): TunnelEnd {
  const reason =
    cause === 'limit_bytes' || cause === 'upstream_error' ? relayReasons[cause] : (severReason ?? null);
  return { cause, reason };
}
