// Writes the two events of a tunnel from its facts. What goes into them is canonical or ours; who keeps them is observe/.
import type { Decision } from '../policy/index.ts';
import { ProxyError } from './errors.ts';
import type { CloseEvent } from './observe/index.ts';
import type { Tunnel, TunnelEnd } from './tunnel.ts';
import type { Deps } from './types.ts';

/** Puts a verdict on record. Rejects with ProxyError audit_unavailable when it cannot be: then nothing may go out. */
export async function recordDecision(decision: Decision, tunnel: Tunnel, deps: Deps): Promise<void> {
  const before = tunnel.stage;
  tunnel.stage = 'audit';
  const { host, port, verdict, reason, rule, policy, detail } = decision;
  const addresses = tunnel.grant?.addresses.map(({ text }) => text) ?? [];
  const fields = {
    host,
    port,
    verdict,
    reason,
    rule: rule?.id ?? null,
    group: rule?.group ?? null,
    policy,
    addresses,
    detail,
  };
  try {
    await deps.observers.decided({ event: 'decision', ...clientOf(tunnel, deps), ...fields });
  } catch (cause) {
    throw new ProxyError('audit_unavailable', 'audit', 'the verdict cannot be put on record', { cause });
  }
  tunnel.verdict = verdict;
  tunnel.stage = before;
}

/** The one close event of a client. */
export function recordClose(end: TunnelEnd, tunnel: Tunnel, deps: Deps): void {
  const { decision, address, ms, bytes, verdict } = tunnel;
  deps.observers.closed({
    event: 'close',
    ...clientOf(tunnel, deps),
    host: decision?.host ?? '',
    port: decision?.port ?? null,
    verdict,
    ...end,
    address: address?.text ?? null,
    ...bytes,
    ms: { total: tunnel.ageMs, ...ms },
    policy: tunnel.policy?.digest ?? deps.policyStore.current.digest,
  });
}

type ClientFields = Pick<CloseEvent, 'time' | 'run' | 'tunnel' | 'principal' | 'peer' | 'listener' | 'mode'>;

function clientOf({ id, start, mode }: Tunnel, { settings, clock }: Deps): ClientFields {
  const { principal, peer, listener } = start;
  const time = new Date(clock()).toISOString();
  return { time, run: settings.run, tunnel: id, principal: principal?.name ?? null, peer, listener, mode };
}
