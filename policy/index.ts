// The door of policy/: others import this file only. Decides nothing itself.

export { addressFromBytes, parseAddress, type Address } from './address.ts';
export { classifyAddress, isSameAddress, unwrapAddress, type AddressClass } from './address-class.ts';
export { parseRange, rangeOf, type AddressRange } from './address-range.ts';
export { Policy, type IndexedImage, type PolicyImage } from './compile.ts';
export type { Decision, EgressRequest, Mode, Principal, ServerNameFact } from './decision.ts';
export { confirm, decide, grant, isGrant, type Grant } from './decide.ts';
export { canonicalText, type PolicyDocument, type RuleDocument, type ServiceDocument } from './document.ts';
export { nearest } from './edit-distance.ts';
export { explain, type Explanation } from './explain.ts';
export { canonicalHost, type CanonicalHost } from './host.ts';
export { parseJson, type JsonResult } from './json.ts';
export { openImage } from './image.ts';
export type { CompiledService, RunService } from './rule.ts';
export { decodePolicy, loadPolicy, parsePolicy, readPolicyBytes } from './load.ts';
export { PolicyError, type Problem } from './problem.ts';
export { printable } from './printable.ts';
export {
  failureCodes,
  reasons,
  reasonsPage,
  reasonText,
  type FailureCode,
  type Reason,
  type Verdict,
} from './reasons.ts';
export { parseServiceFlag, targetOf, withServices } from './services.ts';
export { parsePort, parseTarget, type Target } from './target.ts';
export { targetOfHello, targetOfName } from './bare-name.ts';
export { listReport } from './report.ts';
export { runPolicyTests, type TestFailure } from './policy-tests.ts';
