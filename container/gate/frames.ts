// Layer 2: frames that are no IP at all, and questions by ARP that are not the sandbox's to ask. Brings back what was seen; judge-frames.ts judges.
// Needs the egress hook (Linux 5.16) for most; without it those are not tried, and that is said.
import { setTimeout as delay } from 'node:timers/promises';
import { counterOf } from '../../nft/index.ts';
import { tool, ToolError } from '../exec.ts';
import { entering } from './disguise.ts';
import { egressTable, frameKinds, hostTable, marked, nameOf, sandboxTable } from './frame-tables.ts';
import { dropTable, load, readCounters } from './nft-words.ts';
import { gateNames, lentTo, type Place } from './place.ts';
import type { Prober } from './prober.ts';

/** What was seen of one kind of frame. */
export interface FrameSight {
  readonly id: string;
  readonly what: string;
  /** True for what must pass. */
  readonly isControl: boolean;
  /** False where the kernel cannot send it so. */
  readonly tried: boolean;
  /** Frames one step ahead of the fence, and one step behind it. */
  readonly ahead: number;
  readonly past: number;
  /** Answers that went back to the sandbox. */
  readonly answers: number;
}

export interface Frames {
  readonly sights: readonly FrameSight[];
  /** By how much the counter of the class `layer2` rose meanwhile. */
  readonly rose: number;
  /** Links of this machine that lie over the sandbox's, such as a bridge: they would take its frames. */
  readonly above: readonly string[];
}

const patienceMs = 1000;
const pollMs = 5;

/** Sends one of each. Rejects when the fence has no table for frames. */
export async function tryFrames(prober: Prober, place: Place): Promise<Frames> {
  const { table } = gateNames(place.names);
  await load(`${place.directory}/gate-frames`, hostTable(place));
  const canSend = await load(`${place.directory}/gate-egress`, egressTable(place), entering(place)).then(
    () => true,
    (error: unknown) => {
      if (error instanceof ToolError) return false;
      throw error;
    },
  );
  try {
    const before = await layer2(place);
    const tried = frameKinds.filter(({ isDisguised }) => canSend || !isDisguised).map(({ id }) => id);
    const answers = await sendAll(prober, place, tried);
    const seen = await settle(place, tried);
    const sights = frameKinds.map(({ id, what, isControl }): FrameSight => {
      const of = (where: 'ahead' | 'past'): number => seen.get(nameOf(where, { id })) ?? 0;
      const answered = answers.get(id) ?? 0;
      const isTried = tried.includes(id);
      return { id, what, isControl, tried: isTried, ahead: of('ahead'), past: of('past'), answers: answered };
    });
    return { sights, rose: (await layer2(place)) - before, above: await linksAbove(place.names.link) };
  } finally {
    await dropTable('netdev', table);
    if (canSend) await dropTable('netdev', sandboxTable, entering(place));
  }
}

/** What is asked by ARP is asked because a datagram was sent to it; what was learned before would keep it from being asked. */
async function sendAll(
  prober: Prober,
  place: Place,
  tried: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const { names, slot } = place;
  const { onLink, forged } = lentTo(slot);
  const strange = [onLink, forged];
  const inside = async (...words: readonly string[]): Promise<string> =>
    await tool('ip', ['-n', names.netns, ...words]);
  for (const one of strange) await inside('route', 'replace', `${one}/32`, 'dev', names.peer);
  for (const one of [...strange, slot.proxy]) await inside('neigh', 'flush', one, 'dev', names.peer);
  const frames = frameKinds.filter(({ id, type }) => type !== null && tried.includes(id));
  await send(prober, slot.proxy, 0);
  await Promise.all(frames.map(async (kind) => await send(prober, slot.proxy, marked(kind))));
  for (const one of strange) await send(prober, one, 0);
  await settle(place, tried);
  const known = async (address: string): Promise<number> =>
    / lladdr /.test(await inside('neigh', 'show', address, 'dev', names.peer)) ? 1 : 0;
  const answers = new Map([
    ['arp-proxy', await known(slot.proxy)],
    ['arp', await known(onLink)],
    ['arp-forged', await known(forged)],
  ]);
  for (const one of strange) {
    await inside('route', 'del', `${one}/32`, 'dev', names.peer);
    // It would be asked for twice more.
    await inside('neigh', 'del', one, 'dev', names.peer).catch(() => undefined);
  }
  return answers;
}

/** Reads until all of them have come as far as the fence. */
async function settle({ names }: Place, tried: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const seen = await readCounters('netdev', gateNames(names).table);
    const isThere = tried.every((id) => (seen.get(nameOf('ahead', { id })) ?? 0) > 0);
    if (isThere || performance.now() > deadline) return seen;
    await delay(pollMs);
  }
}

async function layer2({ names }: Place): Promise<number> {
  const packets = (await readCounters('netdev', names.table)).get(counterOf('layer2'));
  if (packets === undefined) throw new Error(`counter \`${counterOf('layer2')}\` is gone`);
  return packets;
}

async function send(prober: Prober, address: string, mark: number): Promise<void> {
  const payload = Buffer.alloc(12);
  payload.writeUInt32BE(mark, 0);
  const order = {
    id: `frame ${address} ${mark}`,
    kind: 'udp4',
    address,
    port: 9,
    payload: payload.toString('hex'),
  } as const;
  await new Promise<void>((resolve) => {
    prober.order(order, () => resolve());
  });
}

/** Not from /sys, which shows the namespace in which it was mounted. */
async function linksAbove(link: string): Promise<readonly string[]> {
  const lines = (await tool('ip', ['-o', 'link', 'show'])).split('\n');
  const own = lines.find((line) => line.includes(` ${link}@`)) ?? '';
  const over = lines.filter((line) => line.includes(`@${link}: `)).map((line) => line.split(' ')[1] ?? '');
  const master = / master (\S+) /.exec(own)?.[1];
  return master === undefined ? over : [master, ...over];
}
