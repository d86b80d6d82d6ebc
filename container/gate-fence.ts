// Runs into the walls, twice: as the sandbox is (the kernel has no route), then with a route lent for a moment, so that the packets
// really meet the fence and its counters show it. Brings back what was seen; judges nothing.
import { createServer, connect } from 'node:net';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Drops } from './fence-part.ts';
import type { GateSpec } from './gate.ts';
import type { GateSignals, WallSignal } from './gate-judge.ts';
import { ipv6Link, wallsOf, type Wall } from './gate-walls.ts';
import { hasIpv6, setDefaultRoute, setIpv6 } from './network.ts';
import { tool } from './exec.ts';
import type { Prober } from './prober.ts';
import { createResources, type Resource } from './resource.ts';

const limitMs = 3000;
const pollMs = 10;

/** What was seen of one wall so far. */
type Sight = { -readonly [Key in keyof WallSignal]: WallSignal[Key] };

/** Tries every wall. */
export async function tryWalls(
  prober: Prober,
  spec: GateSpec,
): Promise<Pick<GateSignals, 'walls' | 'listenerTouches'>> {
  const resources = createResources();
  try {
    const sink = await openSink(spec.slot.proxy);
    await resources.add(sink);
    const hasSix = await hasIpv6();
    const walls = wallsOf(spec.slot, sink.port).map((wall): Sight => {
      return { wall, tried: hasSix || wall.kind !== 'udp6', unrouted: '', leak: '', rose: false };
    });
    const sights = walls.filter(({ tried }) => tried);
    await withoutRoute(prober, sights);
    await withRoute(prober, spec, sights);
    return { walls, listenerTouches: sink.touches() };
  } finally {
    await resources.releaseAll();
  }
}

/** A listener of the host at the proxy's address, touched once by the host itself: it does answer, only not to the sandbox. */
async function openSink(address: string): Promise<Resource & { readonly port: number; touches(): number }> {
  let touches = 0;
  const server = createServer((socket) => {
    touches += 1;
    socket.on('error', () => undefined);
    socket.end();
  });
  server.listen(0, address);
  await once(server, 'listening');
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  await touch(port, address);
  return {
    name: 'host port',
    port,
    touches: () => touches,
    release: () => {
      server.close();
    },
  };
}

/** The host's own visit. It ends in time whatever a rule of somebody else's does to it: then nobody was heard, which fails the probe. */
async function touch(port: number, address: string): Promise<void> {
  const control = connect({ port, host: address, timeout: limitMs });
  const end = (): void => void control.destroy();
  control.on('timeout', end).on('error', end).resume();
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  control.once('close', () => resolve());
  await closed;
}

async function withoutRoute(prober: Prober, sights: readonly Sight[]): Promise<void> {
  const routed = sights.filter(({ wall }) => wall.isRouted);
  for (const sight of routed) {
    send(prober, sight.wall, 'unrouted', (error) => {
      if (error === '') sight.leak = 'it was sent although there is no route';
      else sight.unrouted = error;
    });
  }
  await until(() => routed.every((sight) => sight.unrouted !== '' || sight.leak !== ''));
}

async function withRoute(
  prober: Prober,
  { names, slot, fence }: GateSpec,
  sights: readonly Sight[],
): Promise<void> {
  const before = await fence.drops();
  const hasSix = sights.some(({ wall }) => wall.kind === 'udp6');
  try {
    await setDefaultRoute(names, slot, 'add');
    if (hasSix) {
      await setIpv6(names, true);
      await tool('ip', ['-n', names.netns, 'addr', 'add', ipv6Link.sandbox, 'dev', names.peer, 'nodad']);
    }
    for (const sight of sights) send(prober, sight.wall, 'routed', (error) => noteRouted(sight, error));
    await until(async () => noteCounters(sights, before, await fence.drops()));
  } finally {
    if (hasSix) await setIpv6(names, false);
    await setDefaultRoute(names, slot, 'del');
  }
}

/** UDP that was handed to the kernel has proved nothing yet; TCP that connected has. */
function noteRouted(sight: Sight, error: string): void {
  if (error === '' && sight.wall.kind === 'tcp') sight.leak = 'connected';
  if (error === '' && sight.wall.kind === 'ping') sight.leak = 'answered';
}

function noteCounters(sights: readonly Sight[], before: Drops, now: Drops): boolean {
  for (const sight of sights) {
    const { counter } = sight.wall;
    sight.rose ||= (now.get(counter) ?? 0) > (before.get(counter) ?? 0);
  }
  return sights.every((sight) => sight.rose || sight.leak !== '');
}

/** `onEnd` gets the kernel's word, or '' when it went (udp) or got through (tcp, ping). */
function send(prober: Prober, wall: Wall, round: string, onEnd: (error: string) => void): void {
  const { kind, address, port } = wall;
  if (kind === 'ping') {
    prober.ping(address, (said) => onEnd(/ bytes from /.test(said) ? '' : pingWord(said)));
    return;
  }
  prober.order({ id: `${round} ${wall.name}`, kind, address, port }, (answer) =>
    onEnd(answer.outcome === 'error' ? answer.error : ''),
  );
}

function pingWord(said: string): string {
  return /network is unreachable/i.test(said) ? 'ENETUNREACH' : said.trim().split('\n').at(-1) || 'ended';
}

/** Asks again until it is so or `limitMs` have passed: the kernel has no event for a counter. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await holds()) && performance.now() < deadline) await delay(pollMs);
}
