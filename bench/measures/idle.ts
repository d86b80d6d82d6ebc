// Tunnels that are open and silent: what each costs in memory of the peer's processes, and whether a new one is served beside them.
import { setTimeout as wait } from 'node:timers/promises';
import { runClient, startHolder, startUpstream } from '../load/index.ts';
import type { RunningPeer } from '../peers/types.ts';
import { memoryKiBOf } from '../processes.ts';
import { checkClient, known } from './run.ts';
import { FailedRun, type Measure } from './types.ts';

const slots = 64;
/** Descriptors that a proxy needs besides two for each tunnel. */
const spare = 300;

/** Tunnels that one process can hold with so many descriptors. */
export function tunnelsThatFit(descriptors: number): number {
  return Math.floor((descriptors - spare) / 2);
}

export const idle: Measure = {
  name: 'idle',
  title: 'Idle tunnels',
  wantsFresh: true,
  about: ({ stages: [few, many] }) =>
    `${few} and then ${many} tunnels (or as many as the descriptors of one process allow) are opened, used once and left alone. Memory is the growth of the peer's proportional set size, without what the kernel holds for sockets; then new tunnels are opened one by one beside them.`,
  figures: ({ stages: [few, many] }) => [
    { id: 'fewIdle', title: `memory each, ${few}`, unit: 'KiB', digits: 1, better: 'less' },
    { id: 'manyIdle', title: `memory each, ${many}`, unit: 'KiB', digits: 1, better: 'less' },
    { id: 'held', title: 'held', unit: '', digits: 0, better: 'more' },
    { id: 'newP50', title: 'a new one, p50', unit: 'ms', digits: 2, better: 'less' },
    { id: 'newMax', title: 'slowest', unit: 'ms', digits: 2, better: 'less' },
  ],
  async take(peer, world, { stages, tripsMs, settleMs }) {
    const fits = tunnelsThatFit(world.descriptors);
    const wanted = stages.map((stage) => Math.min(stage, fits));
    await using upstream = await startUpstream(world.upstream);
    const empty = await settledMemory(peer, settleMs);
    await using holder = startHolder(peer.way, { slots, stages: wanted });
    const few = await holder.next();
    const withFew = await settledMemory(peer, settleMs);
    const many = few < (wanted[0] ?? 0) ? few : await holder.next();
    const withMany = await settledMemory(peer, settleMs);
    const fresh = await runClient('tunnels', peer.way, { slots: 1, ms: tripsMs / 3 });
    const held = await holder.end();
    await upstream.end();
    if (held.lost > 0) throw new FailedRun(`${held.lost} idle tunnels did not stay open`);
    checkClient(fresh);
    return known({
      fewIdle: withFew && empty && (withFew - empty) / few,
      manyIdle: withMany && empty && (withMany - empty) / many,
      held: many,
      newP50: fresh.p50 / 1000,
      newMax: fresh.max / 1000,
    });
  },
};

async function settledMemory({ pid }: RunningPeer, settleMs: number): Promise<number | undefined> {
  await wait(settleMs);
  return pid === undefined ? undefined : memoryKiBOf(pid);
}
