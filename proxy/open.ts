// The story of one tunnel, design.md §6 steps 3 to 12: three gates, one policy snapshot, a record before the first packet.
// Knows no wire protocol: the door read the request and gives the answer.
import {
  confirm,
  decide,
  grant,
  type Address,
  type Decision,
  type Grant,
  type Reason,
} from '../policy/index.ts';
import { admits } from './admission.ts';
import type { Stage } from './errors.ts';
import { recordDecision } from './records.ts';
import { refusalOf } from './refusal.ts';
import { resetSocket } from './sockets.ts';
import { sniffHello, type Sniffed } from './sniff.ts';
import type { Dialled } from './dial.ts';
import type { RelayEnd } from './relay/index.ts';
import type { Tunnel, TunnelEnd, TunnelState } from './tunnel.ts';
import type { Deps, Inbound } from './types.ts';

/** One tunnel under way: the client, what is known, what is at hand. */
interface Opening {
  readonly inbound: Inbound;
  readonly tunnel: Tunnel;
  readonly deps: Deps;
}

/**
 * Opens the way for `inbound`, or tells it no, and stays until it is over. Throws ProxyError when the world fails, and whatever
 * an aborted step throws when the client left or the tunnel was severed: see `tunnel.stopped`.
 */
export async function open(inbound: Inbound, tunnel: Tunnel, deps: Deps): Promise<TunnelEnd> {
  const place = deps.limits.acquire(inbound.request.principal?.name ?? '');
  const stopWatching = watchEarlyEnd(inbound, tunnel);
  try {
    const opening = { inbound, tunnel, deps };
    const judged = await judge(opening, place.ok ? inbound.turnedAway : place.reason);
    if ('verdict' in judged) return refuse(judged, opening);
    recordDecision(judged.decision, tunnel, deps);
    const upstream = await connect(judged, opening);
    stopWatching();
    return await carry(upstream, judged, opening);
  } finally {
    stopWatching();
    if (place.ok) place.release();
  }
}

/** Gates 1 and 2. A name that is denied is never looked up. */
async function judge(opening: Opening, limit: Reason | undefined): Promise<Grant | Decision> {
  const { inbound, tunnel, deps } = opening;
  const policy = deps.policyStore.current;
  enter(tunnel, 'deciding', 'decide');
  tunnel.request = inbound.request;
  tunnel.policy = policy;
  const named = decide(policy, inbound.request);
  tunnel.decision = named;
  if (deps.isDraining()) return denied(named, 'draining');
  if (limit !== undefined) return denied(named, limit);
  if (named.verdict === 'deny') return named;
  const answers = await addressesOf(opening);
  tunnel.stage = 'grant';
  const granted = grant(policy, inbound.request, named, answers, deps.ownAddresses());
  if (!('verdict' in granted)) tunnel.grant = granted;
  checkStillAdmitted(opening);
  return granted;
}

/** A no that the policy did not say: the proxy itself is full, or going away, or has another policy by now. */
export function denied(decision: Decision, reason: Reason): Decision {
  return { ...decision, verdict: 'deny', reason, rule: null, detail: null };
}

/** A service may lead to an address literal; everything else is looked up, once. */
async function addressesOf({ inbound, tunnel, deps }: Opening): Promise<readonly Address[]> {
  const { target } = inbound.request;
  if (target.kind === 'address') return [target.address];
  enter(tunnel, 'resolving', 'resolve');
  const startedAt = performance.now();
  try {
    return await deps.resolver.resolve(tunnel.decision?.host ?? '', tunnel.signal);
  } finally {
    tunnel.ms.resolve = spent('resolve', startedAt, deps);
    tunnel.signal.throwIfAborted();
  }
}

async function connect(granted: Grant, { tunnel, deps }: Opening): Promise<Dialled> {
  enter(tunnel, 'dialling', 'dial');
  const { attemptTimeoutMs, dialTimeoutMs: totalTimeoutMs } = deps.settings;
  const startedAt = performance.now();
  try {
    const dialled = await deps.dial(granted, { attemptTimeoutMs, totalTimeoutMs, signal: tunnel.signal });
    tunnel.address = dialled.address;
    return dialled;
  } finally {
    tunnel.ms.dial = spent('dial', startedAt, deps);
  }
}

/** Steps 9 to 12. Whatever happens, the upstream socket does not outlive this. */
async function carry({ socket }: Dialled, granted: Grant, opening: Opening): Promise<TunnelEnd> {
  const { inbound, tunnel } = opening;
  try {
    tunnel.signal.throwIfAborted();
    tunnel.stage = 'accept_reply';
    inbound.accept();
    const first = await firstBytes(granted, opening);
    if ('verdict' in first) return refuse(first, opening);
    checkStillAdmitted(opening);
    return await relay(socket, first.bytes, granted, opening);
  } finally {
    resetSocket(socket);
  }
}

/** Gate 3. Nothing has gone upstream yet; a service is opaque and has no such gate. */
async function firstBytes(granted: Grant, opening: Opening): Promise<Pick<Sniffed, 'bytes'> | Decision> {
  const { inbound, tunnel, deps } = opening;
  if (granted.decision.protocol === 'tcp') return { bytes: inbound.head };
  enter(tunnel, 'sniffing', 'sniff');
  const { helloBytes: maxBytes, helloTimeoutMs: timeoutMs } = deps.settings;
  const startedAt = performance.now();
  const sniffed = await sniffHello(inbound.client, inbound.head, {
    maxBytes,
    timeoutMs,
    signal: tunnel.signal,
  });
  tunnel.ms.hello = spent('sniff', startedAt, deps);
  // A client that leaves without a byte has asked for nothing: that is no verdict.
  if (sniffed.fact.kind === 'closed' && sniffed.bytes.length === 0)
    tunnel.stop({ cause: 'client_gone', reason: null });
  tunnel.signal.throwIfAborted();
  tunnel.hello = sniffed.fact;
  const confirmed = confirm(granted, sniffed.fact);
  return confirmed.verdict === 'deny' ? confirmed : { bytes: sniffed.bytes };
}

async function relay(
  upstream: Dialled['socket'],
  toUpstream: Buffer,
  granted: Grant,
  opening: Opening,
): Promise<TunnelEnd> {
  const { inbound, tunnel, deps } = opening;
  const { upBytes: maxUpBytes, downBytes: maxDownBytes } = granted.decision.limits;
  const { idleTimeoutMs } = deps.settings;
  const startedAt = performance.now();
  tunnel.stage = 'relay';
  deps.observers.tunnelOpened();
  try {
    const { client } = inbound;
    const budget = { idleTimeoutMs, maxUpBytes, maxDownBytes };
    const handle = deps.relay.open({ client, upstream, toUpstream, ...budget, onBytes: counter(deps) });
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

function refuse(decision: Decision, { inbound, tunnel, deps }: Opening): TunnelEnd {
  tunnel.decision = decision;
  recordDecision(decision, tunnel, deps);
  inbound.refuse(refusalOf(tunnel.policy ?? deps.policyStore.current, decision, deps.settings));
  return { cause: 'refused', reason: decision.reason };
}

/** A reload looks at the facts there are; this looks again when a fact came after it. */
function checkStillAdmitted({ tunnel, deps }: Opening): void {
  const { current } = deps.policyStore;
  if (current !== tunnel.policy && !admits(current, tunnel, deps.ownAddresses()))
    tunnel.sever('policy_changed');
  tunnel.signal.throwIfAborted();
}

/** A CONNECT client that ends its side before it sent a tunnel byte can never send a hello: it is as good as gone. */
function watchEarlyEnd({ client, head, request }: Inbound, tunnel: Tunnel): () => void {
  const onEnd = (): void => tunnel.stop({ cause: 'client_gone', reason: null });
  if (request.mode === 'connect' && head.length === 0) client.once('end', onEnd);
  return () => void client.off('end', onEnd);
}

function enter(tunnel: Tunnel, state: TunnelState, stage: Stage): void {
  tunnel.state = state;
  tunnel.stage = stage;
}

/** Reports the seconds since `startedAt` and returns the milliseconds. */
function spent(stage: Stage, startedAt: number, { observers }: Deps): number {
  const ms = performance.now() - startedAt;
  observers.stage(stage, ms / 1000);
  return ms;
}
