// Takes every measure on every peer, round after round, peers in turn, so that a slow minute of the machine hits all of them. Keeps what was read.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './measures/run.ts';
import type { Measure, Scale } from './measures/types.ts';
import type { Peer, RunningPeer } from './peers/types.ts';
import type { World } from './world.ts';

export interface Failure {
  readonly peer: string;
  readonly measure: string;
  readonly round: number;
  readonly problem: string;
}

export interface Taken {
  /** Every reading of one figure, by peer name and figure id. */
  readonly readings: ReadonlyMap<string, ReadonlyMap<string, readonly number[]>>;
  readonly failures: readonly Failure[];
}

export interface Plan {
  readonly peers: readonly Peer[];
  readonly measures: readonly Measure[];
  readonly scale: Scale;
  readonly world: World;
  readonly say: (line: string) => void;
}

const ports = { first: 3128, step: 2, of: 1000 };

export async function takeRounds(plan: Plan): Promise<Taken> {
  const readings = new Map(plan.peers.map(({ name }) => [name, new Map<string, number[]>()]));
  const failures: Failure[] = [];
  const present = plan.peers.filter((peer) => peer.absent() === undefined);
  for (let round = 1; round <= plan.scale.rounds; round += 1) {
    for (const [index, peer] of present.entries()) {
      plan.say(`round ${round} of ${plan.scale.rounds}: ${peer.title}`);
      const port = ports.first + (((round * present.length + index) * ports.step) % ports.of);
      const failed = await takePeer(peer, port, plan, (id, value) => {
        const row = readings.get(peer.name);
        row?.set(id, [...(row.get(id) ?? []), value]);
      });
      for (const failure of failed) {
        failures.push({ ...failure, round });
        plan.say(`  ${failure.measure} failed: ${failure.problem}`);
      }
    }
  }
  return { readings, failures };
}

type Keep = (id: string, value: number) => void;

/** Starts one peer afresh, takes every measure, and ends it. */
async function takePeer(peer: Peer, port: number, plan: Plan, keep: Keep): Promise<Omit<Failure, 'round'>[]> {
  const { world, scale, measures } = plan;
  const folder = join(world.folder, `${peer.name}-${port}`);
  mkdirSync(folder);
  const failed: Omit<Failure, 'round'>[] = [];
  const guarded = async (measure: string, action: () => Promise<void>): Promise<boolean> => {
    try {
      await action();
      return true;
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      failed.push({ peer: peer.name, measure, problem });
      return false;
    }
  };
  let running: RunningPeer | undefined;
  try {
    const isUp = await guarded('start', async () => {
      running = await peer.start(world, { port, folder });
    });
    if (!isUp || running === undefined) return failed;
    const ready: RunningPeer = running;
    await guarded('warm-up', async () => await warm(ready, world, scale));
    for (const measure of measures) {
      await guarded(measure.name, async () => {
        for (const [id, value] of Object.entries(await measure.take(ready, world, scale))) keep(id, value);
      });
    }
    return failed;
  } finally {
    await running?.stop();
  }
}

async function warm(peer: RunningPeer, world: World, { warmMs }: Scale): Promise<void> {
  await run('tunnels', peer, world, { slots: 8, ms: warmMs });
  await run('down', peer, world, { slots: 1, ms: warmMs / 4 });
}
