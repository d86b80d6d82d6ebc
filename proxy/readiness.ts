// Should clients be sent here? One list of what says no. Health is another question: a proxy that denies everybody is healthy.
import type { AuditState, FenceReport, PolicyFacts } from './observe/index.ts';

/** Why the proxy is not ready, as `/readyz` names it. */
export type NotReady =
  | 'draining'
  | 'policy_reload_failed'
  | 'audit_unavailable'
  | 'fence_not_ok'
  | 'workers_not_ready';

export interface ReadinessFacts {
  readonly isDraining: boolean;
  readonly policy: PolicyFacts;
  readonly audit: AuditState;
  /** Whether somebody else keeps a kernel fence around our clients; then silence about it is no good sign. */
  readonly isFenced: boolean;
  /** Null until the runner has reported. */
  readonly fence: FenceReport | null;
  /** Null for a proxy of one process. */
  readonly workers: { readonly ready: number } | null;
}

export interface ReadinessProblem {
  readonly reason: NotReady;
  readonly detail: string;
}

/** Everything that says no; empty means ready. */
export function readinessProblems(facts: ReadinessFacts): readonly ReadinessProblem[] {
  const { isDraining, policy, audit, isFenced, fence, workers } = facts;
  const rows: readonly (readonly [isBad: boolean, NotReady, detail: string | null])[] = [
    [isDraining, 'draining', 'the proxy is ending'],
    [policy.lastAttempt === 'failed', 'policy_reload_failed', policy.lastError],
    [!audit.ok, 'audit_unavailable', audit.problem],
    [isFenced && fence === null, 'fence_not_ok', 'the runner has not reported it yet'],
    [fence?.ok === false, 'fence_not_ok', fence?.problems.join('; ') ?? null],
    [workers?.ready === 0, 'workers_not_ready', 'no worker serves clients now'],
  ];
  return rows
    .filter(([isBad]) => isBad)
    .map(([, reason, detail]) => ({ reason, detail: detail ?? 'no details' }));
}
