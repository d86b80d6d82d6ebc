// The second half of a tunnel's story, design.md §6 steps 9 to 12: tell the client, read its hello, confirm the server name, relay.
// Nothing of the client has gone upstream when this begins. Moves no byte itself.
import { confirm, type Decision, type Grant, type ServerNameFact } from '../policy/index.ts';
import type { Conn } from './conn/index.ts';
import type { Dialled } from './dial.ts';
import { RequestFault } from './errors.ts';
import { followHello, type Followed } from './hello-retry.ts';
import { checkStillAdmitted, enter, refuse, spent, type Opening } from './opening.ts';
import type { RelayEnd } from './relay/index.ts';
import { sniffHello } from './sniff.ts';
import type { TunnelEnd } from './tunnel.ts';
import type { Deps } from './types.ts';

/** Steps 9 to 12. Whatever happens, the upstream socket does not outlive this. */
export async function carry(
  { conn: upstream }: Dialled,
  granted: Grant,
  opening: Opening,
): Promise<TunnelEnd> {
  const { inbound, tunnel } = opening;
  try {
    tunnel.signal.throwIfAborted();
    tunnel.stage = 'accept_reply';
    inbound.accept();
    const passed = await passHello(upstream, granted, opening);
    if ('verdict' in passed) return await refuse(passed, opening);
    if (passed.isSilent) return { cause: 'idle', reason: null };
    checkStillAdmitted(opening);
    return await relay(upstream, passed, granted, opening);
  } catch (error) {
    if (!(error instanceof RequestFault)) throw error;
    return await refuse(malformed(granted.decision, error.message), opening);
  } finally {
    upstream.reset();
  }
}

/** What followed an admitted request was not what its head had said. */
function malformed(decision: Decision, detail: string): Decision {
  return { ...decision, verdict: 'deny', reason: 'request_malformed', rule: null, detail };
}

/** What the relay has to begin with. */
type Passed = Pick<Followed, 'sent' | 'isSilent'>;

const nothingSent = { sent: { up: 0, down: 0 }, isSilent: false } as const;

/** Gate 3, for the first hello and for a second one if the server asks for it. A service is opaque and has no such gate; plain HTTP was judged by all it says. */
async function passHello(upstream: Conn, granted: Grant, opening: Opening): Promise<Passed | Decision> {
  const { inbound, tunnel, deps } = opening;
  if (granted.decision.protocol !== 'tls') return nothingSent;
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
  counter(deps)(followed.sent.up, followed.sent.down);
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

async function relay(upstream: Conn, { sent }: Passed, granted: Grant, opening: Opening): Promise<TunnelEnd> {
  const { inbound, tunnel, deps } = opening;
  const { upBytes: maxUpBytes, downBytes: maxDownBytes } = granted.decision.limits;
  const { idleTimeoutMs } = deps.settings;
  const startedAt = performance.now();
  tunnel.stage = 'relay';
  deps.observers.tunnelOpened();
  try {
    const { client } = inbound;
    const budget = { idleTimeoutMs, maxUpBytes, maxDownBytes };
    const way = { upstream, sent, ...budget, onBytes: counter(deps) };
    const handle = inbound.exchange?.({ ...way, relay: deps.relay }) ?? deps.relay.open({ ...way, client });
    tunnel.carry(handle);
    return endOf(await handle.done);
  } finally {
    deps.observers.tunnelClosed((performance.now() - startedAt) / 1000);
  }
}

function counter({ observers }: Deps): (up: number, down: number) => void {
  return (up, down) => {
    if (up > 0) observers.bytes('up', up);
    if (down > 0) observers.bytes('down', down);
  };
}

const relayReasons = { limit_bytes: 'limit_bytes', upstream_error: 'upstream_reset' } as const;

function endOf({ cause, severReason }: RelayEnd): TunnelEnd {
  const reason =
    cause === 'limit_bytes' || cause === 'upstream_error' ? relayReasons[cause] : (severReason ?? null);
  return { cause, reason };
}
