// One probe's verdict as it is told and recorded. Decides nothing.

/** A verdict, and the signal it rests on. */
export interface ProbeResult {
  readonly id: string;
  readonly what: string;
  /** `not_tried`: there was nothing to try here; `signal` says why. */
  readonly verdict: 'pass' | 'fail' | 'not_tried';
  readonly signal: string;
}

/** A verdict of `fail` when one of `problems` is not empty, else of `pass`. */
export function failIf(
  problems: readonly string[],
  { id, what, signal }: Readonly<Record<'id' | 'what' | 'signal', string>>,
): ProbeResult {
  const said = problems.filter((problem) => problem !== '').join('; ');
  return said === '' ? { id, what, verdict: 'pass', signal } : { id, what, verdict: 'fail', signal: said };
}

/** Nothing to try, and why. */
export function notTried(id: string, what: string, why: string): ProbeResult {
  return { id, what, verdict: 'not_tried', signal: `not tried: ${why}` };
}

/** How many of each verdict. */
export function tally(results: readonly ProbeResult[]): {
  readonly passed: number;
  readonly failed: number;
  readonly notTried: number;
} {
  const of = (verdict: ProbeResult['verdict']): number =>
    results.filter((result) => result.verdict === verdict).length;
  return { passed: of('pass'), failed: of('fail'), notTried: of('not_tried') };
}

/** `12 probes passed`, or with what was not tried or failed: never counted as passed. */
export function probeCount(results: readonly ProbeResult[]): string {
  const { passed, failed, notTried: rest } = tally(results);
  const more = [failed === 0 ? '' : `, ${failed} FAILED`, rest === 0 ? '' : `, ${rest} not tried`];
  return `${passed} probes passed${more.join('')}`;
}
