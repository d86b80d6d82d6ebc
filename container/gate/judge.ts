// Judges what the launch gate saw: pure functions from signals to verdicts. A probe passes only by a signal that its cause alone can give;
// a signal that is missing fails. Sends nothing and waits for nothing.
import { RunRefused } from '../refusal.ts';
import { judgeDoors, type DoorSignals } from './judge-doors.ts';
import { judgeAllowed, judgeCanary, judgeReachable, type ProxySignals } from './judge-proxy.ts';
import type { Frames } from './frames.ts';
import { judgeFrames } from './judge-frames.ts';
import { failIf, notTried, type ProbeResult } from './result.ts';
import type { Rounds, Sighting } from './rounds.ts';
import type { Unrouted } from './unrouted.ts';

/** Everything the gate saw. */
export interface GateSignals extends ProxySignals, DoorSignals {
  readonly unrouted: readonly Unrouted[];
  readonly rounds: Rounds;
  /** Connections that the listener of the host took: one is the host's own, as a control. */
  readonly listenerTouches: number;
  readonly frames: Frames;
  /** What is left once the probes are gone. */
  readonly left: { readonly routes: readonly string[]; readonly isIpv6Off: boolean };
  /** True when nothing else can send yet, so that a counter that rose too far is a fault. */
  readonly isQuiet: boolean;
}

/** The verdict on every probe, in the order in which a person would ask. */
export function judgeGate(signals: GateSignals): readonly ProbeResult[] {
  return [
    judgeAllowed(signals),
    judgeReachable(signals),
    judgeCanary(signals),
    ...judgeDoors(signals),
    ...signals.unrouted.map(judgeUnrouted),
    ...signals.rounds.sightings.map((one) => judgeSighting(one, signals.listenerTouches)),
    ...judgeTotals(signals),
    ...judgeFrames(signals.frames),
    judgeLeft(signals),
  ];
}

/** Throws RunRefused (boundary) with a table when one has failed. */
export function refuseUnlessPassed(results: readonly ProbeResult[]): void {
  const failed = results.filter(({ verdict }) => verdict === 'fail');
  if (failed.length === 0) return;
  throw new RunRefused(
    'boundary',
    `the launch gate did not pass, so nothing was run:\n${probeTable(failed)}`,
    'the boundary is not what it should be on this machine; `sallyport doctor` checks its parts',
  );
}

/** One line a probe, for people. */
export function probeTable(results: readonly ProbeResult[]): string {
  const width = Math.max(...results.map(({ what }) => what.length));
  return results
    .map(({ verdict, what, signal }) => `  ${words[verdict]}  ${what.padEnd(width)}  ${signal}`)
    .join('\n');
}

const words = { pass: 'ok  ', fail: 'FAIL', not_tried: '-   ' } as const;

/** Codes by which the kernel says that there is no way, before a packet is made. */
const noWay: ReadonlySet<string> = new Set([
  'ENETUNREACH',
  'EHOSTUNREACH',
  'EADDRNOTAVAIL',
  'EAFNOSUPPORT',
  'EINVAL',
]);

function judgeUnrouted({ id, what, said }: Unrouted): ProbeResult {
  const problem = noWay.has(said) ? '' : `the kernel said \`${said || 'nothing'}\``;
  return failIf([problem], { id, what, signal: `the kernel said ${said}` });
}

function judgeSighting(seen: Sighting, listenerTouches: number): ProbeResult {
  const { probe, tried, error, ahead, past } = seen;
  const { id, what, meets, packet } = probe;
  if (!tried) return notTried(id, what, 'this kernel has no IPv6');
  const arrived = [
    error === '' ? '' : `it could not be sent: ${error}`,
    ahead >= packet.ports.length ? '' : `${ahead} of ${packet.ports.length} came as far as the fence`,
  ];
  if (meets === null) {
    const stopped =
      past >= packet.ports.length ? '' : `only ${past} of ${packet.ports.length} passed the fence`;
    return failIf([...arrived, stopped], { id, what, signal: `${past} passed, as they must` });
  }
  const problems = [...arrived, ...leaks(seen), heard(probe.id, listenerTouches)];
  return failIf(problems, { id, what, signal: `${ahead} sent, counter \`${meets}\` rose, none passed` });
}

function leaks({ probe, ahead, past, rose }: Sighting): readonly string[] {
  return [
    past === 0 ? '' : `${past} passed the fence`,
    rose >= Math.max(1, ahead) ? '' : `counter \`${probe.meets}\` did not rise by it`,
  ];
}

function heard(id: string, touches: number): string {
  return id !== 'host-listener' || touches === 1
    ? ''
    : 'the host listener was reached, or is deaf to the host itself';
}

/** What belongs to no one probe: packets of others that got by, packets that were counted twice. */
function judgeTotals({ rounds: { strays, surplus }, isQuiet }: GateSignals): readonly ProbeResult[] {
  const stray = failIf([strays === 0 ? '' : `${strays} packets passed the fence`], {
    id: 'nothing-else',
    what: 'nothing else passes the fence',
    signal: 'no packet but to and from the proxy was seen behind the fence',
  });
  const once = { id: 'counted-once', what: 'each packet is counted once' };
  if (!isQuiet) return [stray, notTried(once.id, once.what, 'the command may send at the same time')];
  const problems = surplus.map(({ name, more }) => `counter \`${name}\` rose by ${more} too many`);
  return [stray, failIf(problems, { ...once, signal: 'the counters rose by what was sent' })];
}

/** The probes lent the sandbox routes and IPv6; both must be gone again. */
function judgeLeft({ left: { routes, isIpv6Off } }: GateSignals): ProbeResult {
  const problems = [
    routes.length === 0 ? '' : `routes left: ${routes.join('; ')}`,
    isIpv6Off ? '' : 'IPv6 is on',
  ];
  const signal = 'only the link route is there, IPv6 is off on both ends';
  return failIf(problems, { id: 'nothing-left', what: 'no route, no IPv6', signal });
}
