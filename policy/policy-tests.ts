// Runs the tests that a policy document carries. Decides through decide() only.

import type { Policy } from './compile.ts';
import { decide } from './decide.ts';
import type { Decision, EgressRequest } from './decision.ts';
import { defaultPorts } from './document.ts';
import type { Verdict } from './reasons.ts';
import { parseTarget } from './target.ts';

/** A host without a port means this one, in tests of a policy and in `policy check`. */
export const defaultPort = 443;

export interface TestFailure {
  readonly target: string;
  readonly expect: Verdict;
  readonly decision: Decision;
}

/** The document's own tests that do not hold; empty when all do. */
export function runPolicyTests(policy: Policy): readonly TestFailure[] {
  return policy.document.tests
    .map(({ target, expect }) => ({ target, expect, decision: decide(policy, localRequest(target)) }))
    .filter(({ expect, decision }) => decision.verdict !== expect);
}

/** Ways in that a person can ask about: a service is asked for by its own port. */
export const askableModes = ['connect', 'socks5', 'http'] as const;

export type AskableMode = (typeof askableModes)[number];

/** A target as a person types it, asked for by the principal `local`; without a port that of the protocol. */
export function localRequest(target: string, mode: AskableMode = 'connect'): EgressRequest {
  const port = mode === 'http' ? defaultPorts.http : defaultPort;
  return { principal: { name: 'local' }, target: parseTarget(target, port), mode };
}
