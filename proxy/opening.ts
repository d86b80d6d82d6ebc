// What the steps of opening a tunnel share: the tunnel under way, its no, and the second look after a reload. Tells no story.
import type { Decision } from '../policy/index.ts';
import { admits } from './admission.ts';
import type { Stage } from './errors.ts';
import { recordDecision } from './records.ts';
import { refusalOf } from './refusal.ts';
import type { Tunnel, TunnelEnd, TunnelState } from './tunnel.ts';
import type { Deps, Inbound } from './types.ts';

/** One tunnel under way: the client, what is known, what is at hand. */
export interface Opening {
  readonly inbound: Inbound;
  readonly tunnel: Tunnel;
  readonly deps: Deps;
}

export async function refuse(decision: Decision, { inbound, tunnel, deps }: Opening): Promise<TunnelEnd> {
  tunnel.decision = decision;
  await recordDecision(decision, tunnel, deps);
  const policy = tunnel.policy ?? deps.policyStore.current;
  inbound.refuse(refusalOf(policy, decision, deps.settings, inbound.request.target));
  return { cause: 'refused', reason: decision.reason };
}

/** A reload looks at the facts there are; this looks again when a fact came after it. */
export function checkStillAdmitted({ tunnel, deps }: Opening): void {
  const { current } = deps.policyStore;
  if (current !== tunnel.policy && !admits(current, tunnel, deps.ownAddresses()))
    tunnel.sever('policy_changed');
  tunnel.signal.throwIfAborted();
}

export function enter(tunnel: Tunnel, state: TunnelState, stage: Stage): void {
  tunnel.state = state;
  tunnel.stage = stage;
}

/** Reports the seconds since `startedAt` and returns the milliseconds. */
export function spent(stage: Stage, startedAt: number, { observers }: Deps): number {
  const ms = performance.now() - startedAt;
  observers.stage(stage, ms / 1000);
  return ms;
}
