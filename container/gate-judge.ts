// Judges what the launch gate saw: pure functions from signals to verdicts. Each probe passes only by a signal that its cause alone can
// give; a signal that is missing fails. Sends nothing and waits for nothing.
import { wallsOf, type Wall } from './gate-walls.ts';
import type { ProbeAnswer } from './probe-child.ts';
import { RunRefused } from './refusal.ts';
import { slotAt } from './slot.ts';

/** One probe's verdict, and the signal it rests on. */
export interface ProbeResult {
  readonly name: string;
  readonly ok: boolean;
  /** False when there was nothing to try here; `signal` says why. */
  readonly tried: boolean;
  readonly signal: string;
}

/** What was seen of one wall. */
export interface WallSignal {
  readonly wall: Wall;
  /** False for IPv6 on a kernel that has none. */
  readonly tried: boolean;
  /** The kernel's word without a route; '' when it said nothing. */
  readonly unrouted: string;
  /** What came back that should not; '' when nothing did. */
  readonly leak: string;
  /** Whether the wall's own counter rose. */
  readonly rose: boolean;
}

/** Everything the gate saw. `undefined` as an answer: none came in time. */
export interface GateSignals {
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
  readonly walls: readonly WallSignal[];
  /** Connections that the listener of the host took: one is the host's own, as a control. */
  readonly listenerTouches: number;
  /** What is left once the probes are gone. */
  readonly left: { readonly routes: readonly string[]; readonly isIpv6Off: boolean };
}

/** The verdict on every probe. Throws RunRefused (boundary) with a table when one fails. */
export function judgeGate(signals: GateSignals): readonly ProbeResult[] {
  const results = [
    judgeAllowed(signals),
    judgeReachable(signals),
    judgeCanary(signals),
    ...judgeWalls(signals),
    judgeLeft(signals),
  ];
  const failed = results.filter((result) => !result.ok);
  if (failed.length === 0) return results;
  throw new RunRefused(
    'boundary',
    `the launch gate did not pass, so nothing was run:\n${probeTable(failed)}`,
    'the boundary is not what it should be on this machine; `sallyport doctor` checks its parts',
  );
}

/** `12 probes passed`, or with what was not tried: never counted as passed. */
export function probeCount(results: readonly ProbeResult[]): string {
  const passed = results.filter(({ tried }) => tried).length;
  const rest = results.length - passed;
  return `${passed} probes passed${rest === 0 ? '' : `, ${rest} not tried`}`;
}

function probeTable(results: readonly ProbeResult[]): string {
  const width = Math.max(...results.map((result) => result.name.length));
  return results.map(({ name, signal }) => `  FAIL  ${name.padEnd(width)}  ${signal}`).join('\n');
}

function judged(name: string, ok: boolean, signal: string): ProbeResult {
  return { name, ok, tried: true, signal };
}

function notTried(name: string, why: string): ProbeResult {
  return { name, ok: true, tried: false, signal: `not tried: ${why}` };
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
function judgeAllowed({ allowed }: GateSignals): ProbeResult {
  const name = 'allowed name admitted';
  if (allowed === null) return notTried(name, 'the policy allows no exact name');
  const { target, answer, isAdmitted } = allowed;
  if (answer === undefined && isAdmitted)
    return judged(name, true, `${target} passed the policy; the upstream has not answered yet`);
  const { status, reason } = readReply(answer);
  return judged(name, status === 200 || failuresAfterYes.has(reason), `${target}: ${describe(answer)}`);
}

function judgeReachable({ canary }: GateSignals): ProbeResult {
  return judged('proxy reachable', canary.answer?.outcome === 'replied', describe(canary.answer));
}

/** A policy may also deny a pattern that covers the name. */
const denials: ReadonlySet<string> = new Set(['no_rule_matched', 'rule_denied']);

/** Refused for a reason of policy, and by this run's own proxy: another one may sit in front of it or in its place. */
function judgeCanary({ run, canary }: GateSignals): ProbeResult {
  const { status, reason, text } = readReply(canary.answer);
  const ok = status === 403 && denials.has(reason) && text.includes(`"run":"${run}"`);
  const signal = ok ? `403 ${reason}, signed by this run` : `${canary.host}: ${describe(canary.answer)}`;
  return judged('denied name refused', ok, signal);
}

/** In the order of the table of walls; one that was not looked at has failed. */
function judgeWalls({ walls, listenerTouches }: GateSignals): readonly ProbeResult[] {
  return wallsOf(slotAt(0), 0).map(({ name }) => {
    const seen = walls.find(({ wall }) => wall.name === name);
    return seen === undefined
      ? judged(`no ${name}`, false, 'it was not looked at')
      : judgeWall(seen, listenerTouches === 1);
  });
}

/** Codes by which the kernel says that there is no way, before a packet is made. */
const noWay: ReadonlySet<string> = new Set(['ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT']);

function judgeWall({ wall, tried, unrouted, leak, rose }: WallSignal, isSilent: boolean): ProbeResult {
  const name = `no ${wall.name}`;
  if (!tried) return notTried(name, 'this kernel has no IPv6');
  const isHostPort = wall.counter === 'host';
  const problems = [
    leak,
    wall.isRouted && !noWay.has(unrouted)
      ? `without a route the kernel said \`${unrouted || 'nothing'}\``
      : '',
    rose ? '' : `counter \`${wall.counter}\` did not rise`,
    isHostPort && !isSilent ? 'the host listener was reached, or is deaf to the host itself' : '',
  ].filter((problem) => problem !== '');
  if (problems.length > 0) return judged(name, false, problems.join('; '));
  const first = isHostPort ? 'the listener stayed silent' : `${unrouted} without a route`;
  return judged(name, true, `${first}, counter \`${wall.counter}\` rose`);
}

/** The probes lent the sandbox a route and IPv6; both must be gone again. */
function judgeLeft({ left: { routes, isIpv6Off } }: GateSignals): ProbeResult {
  const ok = routes.length === 0 && isIpv6Off;
  const signal = ok
    ? 'only the link route is there, IPv6 is off on both ends'
    : `routes left: ${routes.join('; ') || 'none'}; IPv6 ${isIpv6Off ? 'off' : 'ON'}`;
  return judged('no route, no IPv6', ok, signal);
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
