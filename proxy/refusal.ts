// Turns a denial or a failure into what the client is told: the one place that chooses statuses. Sends nothing.
import {
  explain,
  failureCodes,
  reasons,
  type Decision,
  type FailureCode,
  type Policy,
  type Reason,
  type Target,
} from '../policy/index.ts';
import type { Refusal, RefusalBody } from './types.ts';

/** What every refusal of one proxy has in common. */
export interface RefusalStyle {
  readonly run: string | null;
  /** False: no hint, no similar name, no way to ask, no rule, whose id may be another name: nothing but what was asked for, and the reason. */
  readonly hints: boolean;
}

const note = 'This is a policy decision; do not try to get around it.';
const laterNote = 'This host was not denied: the same request may work later. Wait before you ask again.';

type Status = readonly [status: number, statusText: string, retryAfterS?: number];

const forbidden: Status = [403, 'Forbidden'];

/** A reason that is not here is 403. INVARIANT: no failure code shares a status with a 403 or 4xx verdict. */
const statuses: ReadonlyMap<Reason | FailureCode, Status> = new Map<Reason | FailureCode, Status>([
  ['request_malformed', [400, 'Bad Request']],
  ['limit_rate', [429, 'Too Many Requests', 1]],
  ['limit_tunnels', [429, 'Too Many Requests', 5]],
  ['draining', [503, 'Service Unavailable', 5]],
  ['dns_failed', [502, 'Bad Gateway']],
  ['dial_refused', [502, 'Bad Gateway']],
  ['upstream_reset', [502, 'Bad Gateway']],
  ['dns_timeout', [504, 'Gateway Timeout']],
  ['dial_timeout', [504, 'Gateway Timeout']],
  ['audit_unavailable', [503, 'Service Unavailable', 5]],
  ['internal', [503, 'Service Unavailable']],
]);

const sentences: ReadonlyMap<Reason | FailureCode, string> = new Map(
  [...reasons, ...failureCodes].map(({ name, sentence }) => [name, sentence]),
);
const failureHints: ReadonlyMap<FailureCode, string> = new Map(
  failureCodes.map(({ name, hint }) => [name, hint]),
);
const transient: ReadonlySet<Reason | FailureCode> = new Set(['limit_rate', 'limit_tunnels', 'draining']);

/** The refusal of a denied request for `target`. */
export function refusalOf(
  policy: Policy,
  decision: Decision,
  style: RefusalStyle,
  target: Target | undefined,
): Refusal {
  const { rule } = decision;
  const advice = style.hints ? explain(policy, decision, target) : {};
  return refusal(decision.reason, {
    ...facts(decision.reason, decision, style),
    ...(rule === null || !style.hints ? {} : { rule: rule.id }),
    // What is wrong with the request is the client's own; what an address turned out to be is not told.
    ...(decision.reason === 'request_malformed' && decision.detail !== null
      ? { detail: decision.detail }
      : {}),
    ...advice,
    ...(transient.has(decision.reason) ? { retry: 'transient', note: laterNote } : { retry: 'none', note }),
  });
}

/** The refusal of a request that was allowed, and that the world did not let happen. */
export function failureOf(code: FailureCode, decision: Decision, style: RefusalStyle): Refusal {
  const hint = style.hints ? failureHints.get(code) : undefined;
  const body = { ...facts(code, decision, style), ...(hint === undefined ? {} : { hint }) };
  return refusal(code, { ...body, retry: 'transient', note: laterNote });
}

function facts(
  reason: Reason | FailureCode,
  { host, port, policy }: Decision,
  { run }: RefusalStyle,
): Pick<RefusalBody, 'reason' | 'sentence' | 'host' | 'port' | 'policy' | 'run'> {
  return { reason, sentence: sentences.get(reason) ?? '', host, port, policy, run };
}

function refusal(reason: Reason | FailureCode, body: RefusalBody): Refusal {
  const [status, statusText, retryAfterS] = statuses.get(reason) ?? forbidden;
  return { status, statusText, reason, body, ...(retryAfterS === undefined ? {} : { retryAfterS }) };
}
