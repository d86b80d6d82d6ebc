// Judges what the proxy answered to the launch gate: a name that is allowed, and one that no policy lists. Pure.
import type { ProbeAnswer } from './probe-child.ts';
import { failIf, notTried, type ProbeResult } from './result.ts';

/** What the proxy said. `undefined` as an answer: none came in time. */
export interface ProxySignals {
  /** The run that is to sign its refusals. */
  readonly run: string;
  /** The proxy's word on a name that no policy lists. */
  readonly canary: { readonly host: string; readonly answer: ProbeAnswer | undefined };
  /** Its word on a listed name, or that its table shows the tunnel past the decision; null: no name is listed exactly. */
  readonly allowed: {
    readonly target: string;
    readonly answer: ProbeAnswer | undefined;
    readonly isAdmitted: boolean;
  } | null;
}

/** Failure codes that come after a verdict of allow: the world failed, the proxy said yes. */
const failuresAfterYes: ReadonlySet<string> = new Set([
  'dns_failed',
  'dns_timeout',
  'dial_refused',
  'dial_timeout',
  'upstream_reset',
]);

/** Answered by the upstream, or failed after a verdict of allow, or on its way: the gate does not wait for somebody's DNS. */
export function judgeAllowed({ allowed }: ProxySignals): ProbeResult {
  const [id, what] = ['allowed-name', 'an allowed name is admitted (control)'];
  if (allowed === null) return notTried(id, what, 'the policy allows no exact name');
  const { target, answer, isAdmitted } = allowed;
  const { status, reason } = readReply(answer);
  if (answer === undefined && isAdmitted)
    return failIf([], { id, what, signal: `${target} passed the policy; the upstream has not answered yet` });
  const said = `${target}: ${describe(answer)}`;
  return failIf([status === 200 || failuresAfterYes.has(reason) ? '' : said], { id, what, signal: said });
}

/** Whoever it is, somebody speaks HTTP there. */
export function judgeReachable({ canary }: ProxySignals): ProbeResult {
  const said = describe(canary.answer);
  const problem = canary.answer?.outcome === 'replied' ? '' : said;
  return failIf([problem], { id: 'proxy-reachable', what: 'the proxy is reachable (control)', signal: said });
}

/** A policy may also deny a pattern that covers the name. */
const denials: ReadonlySet<string> = new Set(['no_rule_matched', 'rule_denied']);

/** Refused for a reason of policy, and by this run's own proxy: another one may sit in front of it or in its place. */
export function judgeCanary({ run, canary }: ProxySignals): ProbeResult {
  const what = 'a name that no policy lists is refused';
  return judgeRefusal({ id: 'denied-name', what, run, answer: canary.answer });
}

/** The same for a question that was put in another way. */
export function judgeRefusal({
  id,
  what,
  run,
  answer,
}: Readonly<Record<'id' | 'what' | 'run', string>> & {
  readonly answer: ProbeAnswer | undefined;
}): ProbeResult {
  const { status, reason, text } = readReply(answer);
  const isRight = status === 403 && denials.has(reason) && text.includes(`"run":"${run}"`);
  const signal = `403 ${reason}, signed by this run`;
  return failIf([isRight ? '' : describe(answer)], { id, what, signal });
}

function readReply(answer: ProbeAnswer | undefined): { status: number; reason: string; text: string } {
  const text = answer?.outcome === 'replied' ? answer.reply : '';
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1];
  const reason = /^sallyport-reason: *([a-z_]+)\r$/im.exec(text)?.[1];
  return { status: Number(status ?? 0), reason: reason ?? '', text };
}

function describe(answer: ProbeAnswer | undefined): string {
  if (answer === undefined) return 'no answer';
  if (answer.outcome === 'error') return answer.error;
  const { status, reason } = readReply(answer);
  return status === 0 ? 'an answer that is not HTTP' : `${status} ${reason}`.trim();
}
