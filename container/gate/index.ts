// The launch gate: proves from inside the sandbox's network that the proxy is there and nothing else is, before the command's first
// instruction, and again on a live run. Looks; judge.ts judges. Changes nothing that outlasts it.
import { hasIpv6, isIpv6Off, listRoutes } from '../network.ts';
import { createResources } from '../resource.ts';
import { askDoors } from './ask-doors.ts';
import { askAllowed, askCanary, type Doorway } from './ask-proxy.ts';
import { tryFrames } from './frames.ts';
import { judgeGate, type GateSignals } from './judge.ts';
import { openListener } from './listener.ts';
import { overhear } from './overhear.ts';
import type { Place } from './place.ts';
import { startProber, type Prober } from './prober.ts';
import type { ProbeResult } from './result.ts';
import { runRounds } from './rounds.ts';
import { tryUnrouted } from './unrouted.ts';

export { canaryOf, type Doorway } from './ask-proxy.ts';
export { probeTable, refuseUnlessPassed } from './judge.ts';
export { clearGate } from './observer.ts';
export type { Place } from './place.ts';
export { makeRecord, writeRecord, type GateRecord } from './record.ts';
export { probeCount, tally, type ProbeResult } from './result.ts';

/** Packets inside one machine take microseconds; this is for a machine that is busy with other things. */
const patienceMs = 3000;

/** What the gate looks at. */
export interface GateSpec extends Place {
  readonly doorway: Doorway;
  /** True when nothing else can send from inside yet. */
  readonly isQuiet: boolean;
}

/** Runs every probe. The verdicts; a probe that failed is no error. */
export async function tryGate(spec: GateSpec): Promise<readonly ProbeResult[]> {
  const resources = createResources();
  try {
    const prober = await startProber(spec.names);
    await resources.add(prober);
    const overhearing = spec.doorway.wired.dns.length > 0 ? await overhear(spec) : null;
    if (overhearing !== null) await resources.add(overhearing);
    const [allowed, canary, doors, walls] = await Promise.all([
      askAllowed(prober, spec.doorway),
      askCanary(prober, spec.doorway),
      askDoors(prober, spec.doorway),
      tryWalls(prober, spec),
    ]);
    const heard = (await overhearing?.heard()) ?? null;
    await resources.releaseAll();
    const { isQuiet, doorway } = spec;
    return judgeGate({
      run: doorway.id,
      allowed,
      canary,
      doors,
      heard,
      ...walls,
      left: await lookAfter(spec),
      isQuiet,
    });
  } finally {
    await resources.releaseAll();
  }
}

type WallSignals = Pick<GateSignals, 'unrouted' | 'frames' | 'rounds' | 'listenerTouches'>;

/** Everything that is about packets. In this order: what has no route is tried before a route is lent. */
export async function tryWalls(prober: Prober, spec: Place): Promise<WallSignals> {
  const unrouted = await tryUnrouted(prober, spec);
  const frames = await tryFrames(prober, spec);
  const listener = await openListener(spec.slot.proxy);
  try {
    const hasSix = await hasIpv6();
    const rounds = await runRounds({ place: spec, prober, hasSix, listener: listener.port, patienceMs });
    return { unrouted, frames, rounds, listenerTouches: listener.touches() };
  } finally {
    await listener.release();
  }
}

async function lookAfter({ names, slot }: Place): Promise<GateSignals['left']> {
  const ownRoute = `dev ${names.peer} proto kernel scope link src ${slot.sandbox}`;
  const routes = (await listRoutes(names)).filter((route) => !route.includes(ownRoute));
  return { routes, isIpv6Off: await isIpv6Off(names) };
}
