// Runs the tests that a policy document carries. Decides through decide() only.

import type { Policy } from './compile.ts';
import { decide } from './decide.ts';
import type { Decision, EgressRequest } from './decision.ts';
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

/** A target as a person types it, asked for by the principal `local` over CONNECT. */
export function localRequest(target: string): EgressRequest {
  return { principal: { name: 'local' }, target: parseTarget(target, defaultPort), mode: 'connect' };
}
