// The story of one tunnel up to its first packet, design.md §6 steps 3 to 8: two gates, one policy snapshot, a record first.
// Knows no wire protocol: the door read the request and gives the answer. carry.ts goes on from there.
import { decide, grant, type Address, type Decision, type Grant, type Reason } from '../policy/index.ts';
import { carry } from './carry.ts';
import type { Dialled } from './dial.ts';
import { checkStillAdmitted, enter, refuse, spent, type Opening } from './opening.ts';
import { recordDecision } from './records.ts';
import type { RelayHandle } from './relay/index.ts';
import type { Tunnel, TunnelEnd } from './tunnel.ts';
import type { Deps, Inbound } from './types.ts';

/**
 * Opens the way for `inbound`, or tells it no: the relay that has it, or its end. Throws ProxyError when the world fails, and whatever
 * an aborted step throws when the client left or the tunnel was severed: see `tunnel.stopped`.
 */
export async function open(inbound: Inbound, tunnel: Tunnel, deps: Deps): Promise<TunnelEnd | RelayHandle> {
  const place = deps.limits.acquire(inbound.request.principal?.name ?? '');
  const stopWatching = watchEarlyEnd(inbound, tunnel);
  if (place.ok) tunnel.release = () => place.release();
  try {
    const opening = { inbound, tunnel, deps };
    const judged = await judge(opening, place.ok ? inbound.turnedAway : place.reason);
    if ('verdict' in judged) return await refuse(judged, opening);
    await recordDecision(judged.decision, tunnel, deps);
    const upstream = await connect(judged, opening);
    stopWatching();
    return await carry(upstream, judged, opening);
  } finally {
    stopWatching();
    // A tunnel that is open keeps its place.
    if (tunnel.state !== 'open') tunnel.release?.();
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
  const { network } = deps;
  const startedAt = performance.now();
  try {
    const dialled = await deps.dial(granted, {
      network,
      attemptTimeoutMs,
      totalTimeoutMs,
      signal: tunnel.signal,
    });
    tunnel.address = dialled.address;
    return dialled;
  } finally {
    tunnel.ms.dial = spent('dial', startedAt, deps);
  }
}

/** A CONNECT client that ends its side before it sent a tunnel byte can never send a hello: it is as good as gone. */
function watchEarlyEnd({ client, request }: Inbound, tunnel: Tunnel): () => void {
  if (request.mode !== 'connect') return () => {};
  return client.onFinished(() => tunnel.stop({ cause: 'client_gone', reason: null }));
}
