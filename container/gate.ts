// The launch gate: proves from inside the sandbox's network that the proxy is there and nothing else is, before the command's first
// instruction. Each probe is judged by a signal only its cause can give. Changes nothing that outlasts it.
import { allowedThroughProxy, deniedByProxy, type Doorway } from './gate-proxy.ts';
import { tryWalls } from './gate-fence.ts';
import type { FencePart } from './fence-part.ts';
import type { RunNames } from './names.ts';
import { isIpv6Off, listRoutes } from './network.ts';
import { startProber } from './prober.ts';
import { RunRefused } from './refusal.ts';
import { createResources } from './resource.ts';
import type { Slot } from './slot.ts';

/** One probe's verdict, and the signal it rests on. */
export interface ProbeResult {
  readonly name: string;
  readonly ok: boolean;
  readonly signal: string;
}

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
    const results = await Promise.all([
      allowedThroughProxy(prober, spec.doorway),
      deniedByProxy(prober, spec.doorway),
      tryWalls(prober, spec),
    ]);
    await resources.releaseAll();
    return judge([...results.flat(), await leftAsFound(spec)]);
  } finally {
    await resources.releaseAll();
  }
}

function judge(results: readonly ProbeResult[]): readonly ProbeResult[] {
  const failed = results.filter((result) => !result.ok);
  if (failed.length === 0) return results;
  throw new RunRefused(
    'boundary',
    `the launch gate did not pass, so nothing was run:\n${probeTable(failed)}`,
    'the boundary is not what it should be on this machine; `sallyport doctor` checks its parts',
  );
}

/** Probes as lines of a table. */
export function probeTable(results: readonly ProbeResult[]): string {
  const width = Math.max(...results.map((result) => result.name.length));
  return results
    .map(({ name, ok, signal }) => `  ${ok ? 'ok  ' : 'FAIL'}  ${name.padEnd(width)}  ${signal}`)
    .join('\n');
}

/** The probes lent the sandbox a route and IPv6; both must be gone again. */
async function leftAsFound({ names, slot }: GateSpec): Promise<ProbeResult> {
  const routes = (await listRoutes(names)).filter(
    (route) => !route.includes(`dev ${names.peer} proto kernel scope link src ${slot.sandbox}`),
  );
  const isOff = await isIpv6Off(names);
  const ok = routes.length === 0 && isOff;
  const signal = ok
    ? 'only the link route is there, IPv6 is off on both ends'
    : `routes left: ${routes.join('; ') || 'none'}; IPv6 ${isOff ? 'off' : 'ON'}`;
  return { name: 'no route, no IPv6', ok, signal };
}
