// One accepted client, from accept to audit line: the only place that catches, and where every client gets its one close event.
// Knows no wire protocol and no policy.
import type { FailureCode, Reason } from '../policy/index.ts';
import { endOf } from './carry.ts';
import type { Conn } from './conn/index.ts';
import { formatEndpoint } from './endpoint.ts';
import { ProxyError } from './errors.ts';
import { denied, open } from './open.ts';
import type { PrincipalOf } from './principal.ts';
import { recordClose } from './records.ts';
import { failureOf, refusalOf } from './refusal.ts';
import type { RelayHandle } from './relay/index.ts';
import { Tunnel, type TunnelEnd } from './tunnel.ts';
import type { Deps, Door, Inbound } from './types.ts';

/** How long a client that was told no may take to read it, in ms; `lingering` bounds how many do so at once. */
const lingerMs = 1000;

/** Serves `client` to its end, or until its tunnel is open: then its relay tells the end. Never rejects. */
export async function serve(client: Conn, door: Door, principalOf: PrincipalOf, deps: Deps): Promise<void> {
  const tunnel = accept(client, door, principalOf, deps);
  deps.table.enter(tunnel);
  const end = await attend(client, tunnel, door, deps);
  if ('done' in end) {
    void leaveAfter(end, tunnel, deps);
    return;
  }
  await farewell(tunnel, deps);
  leave(end, tunnel, deps);
}

/** A function of its own: what it keeps alive, an idle tunnel keeps. */
async function leaveAfter({ done }: RelayHandle, tunnel: Tunnel, deps: Deps): Promise<void> {
  const end = await done;
  deps.observers.tunnelClosed(tunnel.carriedSeconds);
  leave(endOf(end), tunnel, deps);
}

function leave(end: TunnelEnd, tunnel: Tunnel, deps: Deps): void {
  tunnel.state = 'ending';
  tunnel.release?.();
  deps.table.leave(tunnel);
  guarded(() => recordClose(end, tunnel, deps), tunnel, deps);
}

function accept(client: Conn, { mode }: Door, principalOf: PrincipalOf, { clock }: Deps): Tunnel {
  const { local, peer } = client;
  return new Tunnel(client, {
    mode,
    peer: formatEndpoint(peer.address, peer.port),
    listener: formatEndpoint(local.address, local.port),
    principal: principalOf(local, peer),
    openedAt: clock(),
  });
}

const clientGone: TunnelEnd = { cause: 'client_gone', reason: null };

async function attend(
  client: Conn,
  tunnel: Tunnel,
  door: Door,
  deps: Deps,
): Promise<TunnelEnd | RelayHandle> {
  const { peer, listener, principal } = tunnel.start;
  let inbound: Inbound | undefined;
  // It reset the connection before we took it: nobody is there to be judged, and nobody can say who it was.
  if (client.isGone || client.peer.address === '') return clientGone;
  try {
    inbound = await door.receive(client, { peer, listener, principal, signal: tunnel.signal });
    deps.observers.stage('head', tunnel.ageMs / 1000);
    if (inbound === undefined) return clientGone;
    return await open(inbound, tunnel, deps);
  } catch (error) {
    return fail(error, inbound, tunnel, deps);
  }
}

/** A step was stopped, or the world failed, or there is a bug: three things that are never mixed. */
function fail(error: unknown, inbound: Inbound | undefined, tunnel: Tunnel, deps: Deps): TunnelEnd {
  const isFailure = error instanceof ProxyError;
  const isStop = tunnel.signal.aborted && error === tunnel.signal.reason;
  if (!isFailure && !isStop) deps.observers.bug(error, tunnel.stage);
  if (tunnel.stopped !== undefined) return stopped(tunnel.stopped, inbound, tunnel, deps);
  return failed(isFailure ? error.code : 'internal', inbound, tunnel, deps);
}

function failed(code: FailureCode, inbound: Inbound | undefined, tunnel: Tunnel, deps: Deps): TunnelEnd {
  const { decision } = tunnel;
  if (decision !== undefined) {
    guarded(() => inbound?.refuse(failureOf(code, decision, deps.settings)), tunnel, deps);
  }
  return { cause: 'failed', reason: code };
}

/** Severed before it was open: the client may still be told why, unless it is the one that left. */
function stopped(end: TunnelEnd, inbound: Inbound | undefined, tunnel: Tunnel, deps: Deps): TunnelEnd {
  const { decision, policy } = tunnel;
  if (end.cause === 'severed' && decision !== undefined && policy !== undefined) {
    const why = denied(decision, cutReason(end.reason));
    guarded(
      () => inbound?.refuse(refusalOf(policy, why, deps.settings, tunnel.request?.target)),
      tunnel,
      deps,
    );
  }
  return end;
}

/** A reload severs with the reason of the new verdict; the client is told that the policy changed. */
function cutReason(reason: string | null): Reason {
  return reason === 'draining' || reason === 'fence_broken' ? reason : 'policy_changed';
}

/** Lets a refused client read what it was told; whoever was told nothing is closed at once. */
async function farewell(tunnel: Tunnel, { lingering }: Deps): Promise<void> {
  const { client, start } = tunnel;
  tunnel.state = 'ending';
  if (client === undefined || client.isGone) return;
  if (!client.isEnded) {
    client.close();
    return;
  }
  const place = lingering.acquire(start.principal?.name ?? '');
  if (place.ok) await client.linger(lingerMs, tunnel.signal);
  else client.reset();
  if (place.ok) place.release();
}

/** A bug in telling or recording must not become a bug in the process. */
function guarded(action: () => void, tunnel: Tunnel, deps: Deps): void {
  try {
    action();
  } catch (error) {
    deps.observers.bug(error, tunnel.stage);
  }
}
