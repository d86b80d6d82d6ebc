// Sends every probe, in rounds with at most one of each class, and reads the kernel's counters after each: so a counter that rose is that of
// the probe. Brings back what was seen; judges nothing.
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { DropClass } from '../../nft/index.ts';
import type { Drops } from '../fence-part.ts';
import { createResources, type Resource, type Resources } from '../resource.ts';
import { openDisguise } from './disguise.ts';
import { lend } from './lend.ts';
import { openObserver, type Look, type Marked, type Observer, type Sight } from './observer.ts';
import type { Place } from './place.ts';
import type { Prober } from './prober.ts';
import { probesOf, type Probe } from './probes.ts';
import { openHostSender, type HostSender } from './send-host.ts';
import { sendFromSandbox } from './send-sandbox.ts';

/** What was seen of one probe. */
export interface Sighting {
  readonly probe: Probe;
  /** False for IPv6 on a kernel that has none. */
  readonly tried: boolean;
  /** Why it could not be sent; '' when it was. */
  readonly error: string;
  /** Packets one step ahead of the fence, and one step behind it. */
  readonly ahead: number;
  readonly past: number;
  /** By how much its class's counter rose in its round; 0 for a control. */
  readonly rose: number;
}

/** Everything the rounds saw. */
export interface Rounds {
  readonly sightings: readonly Sighting[];
  /** Packets that passed the fence, were no probe and not the proxy's business. */
  readonly strays: number;
  /** Classes that counted more than was sent, with by how much. */
  readonly surplus: readonly { readonly name: DropClass; readonly more: number }[];
}

/** What is sent to and looked at. */
export interface RoundsSpec {
  readonly place: Place;
  readonly prober: Prober;
  readonly hasSix: boolean;
  /** Port of this machine's listener. */
  readonly listener: number;
  /** How long all rounds together may wait for packets that do not come, in ms. */
  readonly patienceMs: number;
}

const pollMs = 5;

/** The probes with all they need, ready to be sent, also more than once. */
export interface OpenRounds extends Resource {
  /** Sends round after round; ends early when `isEnough` says so of what a round has shown. */
  run(isEnough?: (seen: readonly Sighting[]) => boolean): Promise<Rounds>;
  /** Takes back what was lent. Rejects when a part of it is still there: the boundary would be wider than it was asked to be. */
  release(): Promise<void>;
}

/** Lends what the probes need, sends them, and takes it all back. */
export async function runRounds(spec: RoundsSpec): Promise<Rounds> {
  const rounds = await openRounds(spec);
  try {
    return await rounds.run();
  } finally {
    await rounds.release();
  }
}

/** Lends what the probes need. The caller releases it. */
export async function openRounds(spec: RoundsSpec): Promise<OpenRounds> {
  const resources = createResources();
  const { place, hasSix } = spec;
  const marked = markAll(probesOf(place, spec.listener));
  const tried = marked.filter(({ probe }) => hasSix || probe.family === 4);
  const skipped = marked.filter((one) => !tried.includes(one)).map(({ probe }) => unseen(probe));
  try {
    const observer = await openObserver(place, tried);
    await resources.add(observer);
    await prepare(place, tried, resources);
    const host = openHostSender(hasSix);
    await resources.add(host);
    return {
      name: 'rounds',
      async run(isEnough = () => false) {
        const means = { look: await fromNow(observer), host, isEnough, patience: { ms: spec.patienceMs } };
        const seen = await sendAll(spec, tried, means);
        return { ...seen, sightings: [...seen.sightings, ...skipped] };
      },
      release: async () => await giveBack(resources),
    };
  } catch (error) {
    await resources.releaseAll();
    throw error;
  }
}

/** What is seen from now on. */
async function fromNow(observer: Observer): Promise<() => Promise<Look>> {
  const first = await observer.look();
  const less = (id: string, { ahead, past }: Sight): Sight => {
    const before = first.sights.get(id);
    return { ahead: ahead - (before?.ahead ?? 0), past: past - (before?.past ?? 0) };
  };
  return async () => {
    const { sights, strays, drops } = await observer.look();
    return {
      sights: new Map([...sights].map(([id, now]) => [id, less(id, now)])),
      strays: strays - first.strays,
      drops: riseOf(first.drops, drops),
    };
  };
}

async function giveBack(resources: Resources): Promise<void> {
  const [failure] = await resources.releaseAll();
  if (failure === undefined) return;
  throw new Error(`${failure.name} of the launch gate is still there: ${String(failure.error)}`);
}

async function prepare(place: Place, marked: readonly Marked[], resources: Resources): Promise<void> {
  const add = async (resource: Resource): Promise<void> => await resources.add(resource);
  await lend(place, add);
  await resources.add(await openDisguise(place, marked));
}

/** A mark that no other packet is likely to have: the upper 24 bits are this gate's own. */
function markAll(probes: readonly Probe[]): readonly Marked[] {
  const base = randomInt(1, 2 ** 24) * 256;
  return probes.map((probe, i) => ({ probe, mark: base + i }));
}

function unseen(probe: Probe): Sighting {
  return { probe, tried: false, error: '', ahead: 0, past: 0, rose: 0 };
}

interface Means {
  look(): Promise<Look>;
  readonly host: HostSender;
  isEnough(seen: readonly Sighting[]): boolean;
  /** What is left of it. */
  readonly patience: { ms: number };
}

async function sendAll(spec: RoundsSpec, marked: readonly Marked[], means: Means): Promise<Rounds> {
  const sightings: Sighting[] = [];
  const surplus: { name: DropClass; more: number }[] = [];
  let before: Drops = (await means.look()).drops;
  for (const round of roundsOf(marked)) {
    const errors = await sendRound(spec, round, means);
    const sent = round.filter((_, i) => errors[i] === '').map(({ probe }) => probe);
    const { drops, sights } = await settle(means, before, sent);
    const rise = riseOf(before, drops);
    const seen = round.map(({ probe }, i) => sight(probe, errors[i] ?? '', sights, rise));
    sightings.push(...seen);
    surplus.push(...surplusOf(seen, rise));
    before = drops;
    if (means.isEnough(seen)) break;
  }
  // Once more, for a packet that was between two counters when they were read.
  const last = await means.look();
  const past = (id: string): number => last.sights.get(id)?.past ?? 0;
  return {
    sightings: sightings.map((one) => ({ ...one, past: past(one.probe.id) })),
    strays: last.strays,
    surplus,
  };
}

/** The n-th probe of each class is in round n; controls go one a round too. */
function roundsOf(marked: readonly Marked[]): readonly (readonly Marked[])[] {
  const counts = new Map<string | null, number>();
  const rounds: Marked[][] = [];
  for (const one of marked) {
    const n = counts.get(one.probe.meets) ?? 0;
    counts.set(one.probe.meets, n + 1);
    (rounds[n] ??= []).push(one);
  }
  return rounds;
}

/** Gives all of it to the kernel; for each the kernel's word, '' when it took it. */
async function sendRound(
  { prober, place }: RoundsSpec,
  round: readonly Marked[],
  { host }: Means,
): Promise<readonly string[]> {
  return await Promise.all(
    round.map(async (one) =>
      one.probe.from === 'sandbox' ? await sendFromSandbox(prober, place, one) : await host.send(one),
    ),
  );
}

/** Reads until all has come as far as the fence; from there on everything happens at once, so one more reading sees all of it. */
async function settle(means: Means, before: Drops, sent: readonly Probe[]): Promise<Look> {
  const { patience } = means;
  const start = performance.now();
  for (let isLast = false; ;) {
    const now = await means.look();
    const rise = riseOf(before, now.drops);
    const ahead = sent.map((probe) => sight(probe, '', now.sights, rise));
    const isThere = ahead.every((one) => one.ahead >= one.probe.packet.ports.length);
    const hasRisen = ahead.every((one) => one.probe.meets === null || one.rose >= one.ahead);
    const waited = performance.now() - start;
    if (isLast || (isThere && hasRisen) || waited > patience.ms) {
      if (!isThere) patience.ms = Math.max(0, patience.ms - waited);
      return now;
    }
    isLast = isThere;
    await delay(pollMs);
  }
}

function riseOf(before: Drops, now: Drops): Drops {
  return new Map([...now].map(([name, packets]) => [name, packets - (before.get(name) ?? 0)]));
}

function sight(probe: Probe, error: string, sights: Look['sights'], rise: Drops): Sighting {
  const { ahead, past } = sights.get(probe.id) ?? { ahead: 0, past: 0 };
  return {
    probe,
    tried: true,
    error,
    ahead,
    past,
    rose: probe.meets === null ? 0 : (rise.get(probe.meets) ?? 0),
  };
}

/** The kernel itself sends these at times: neighbours and listeners of IPv6, and what other programs send on any new link. */
const noisy: ReadonlySet<DropClass> = new Set(['ipv6', 'inbound']);

/** Each packet is counted once; the later pieces of a fragmented one are counted too, and not seen ahead. */
function surplusOf(seen: readonly Sighting[], rise: Drops): readonly { name: DropClass; more: number }[] {
  return [...rise].flatMap(([name, packets]) => {
    const own = seen.filter(({ probe }) => probe.meets === name);
    const isPieces = own.some(({ probe }) => probe.packet.isLarge === true);
    const more = packets - own.reduce((sum, { ahead }) => sum + ahead, 0);
    return more > 0 && !isPieces && !noisy.has(name) ? [{ name, more }] : [];
  });
}
