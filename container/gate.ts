// The launch gate: proves from inside the sandbox's network that the proxy is there and nothing else is, before the command's first
// instruction. Looks; gate-judge.ts judges. Changes nothing that outlasts it.
import { askAllowed, askCanary, type Doorway } from './gate-proxy.ts';
import { tryWalls } from './gate-fence.ts';
import { judgeGate, type GateSignals, type ProbeResult } from './gate-judge.ts';
import type { FencePart } from './fence-part.ts';
import type { RunNames } from './names.ts';
import { isIpv6Off, listRoutes } from './network.ts';
import { startProber } from './prober.ts';
import { createResources } from './resource.ts';
import type { Slot } from './slot.ts';

/** What the gate looks at. */
export interface GateSpec {
  readonly names: RunNames;
  readonly slot: Slot;
  readonly fence: FencePart;
  readonly doorway: Doorway;
}

/** Runs every probe. Throws RunRefused (boundary) with a table when one fails. */
export async function passGate(spec: GateSpec): Promise<readonly ProbeResult[]> {
  const resources = createResources();
  try {
    const prober = await startProber(spec.names);
    await resources.add(prober);
    const [allowed, canary, walls] = await Promise.all([
      askAllowed(prober, spec.doorway),
      askCanary(prober, spec.doorway),
      tryWalls(prober, spec),
    ]);
    await resources.releaseAll();
    return judgeGate({ run: spec.doorway.id, allowed, canary, ...walls, left: await lookAfter(spec) });
  } finally {
    await resources.releaseAll();
  }
}

async function lookAfter({ names, slot }: GateSpec): Promise<GateSignals['left']> {
  const ownRoute = `dev ${names.peer} proto kernel scope link src ${slot.sandbox}`;
  const routes = (await listRoutes(names)).filter((route) => !route.includes(ownRoute));
  return { routes, isIpv6Off: await isIpv6Off(names) };
}
