// Takes every measure on every peer, round after round, peers in turn, so that a slow minute of the machine hits all of them. Keeps what was read.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './measures/run.ts';
import type { Measure, OwnMeasure, Readings, Scale } from './measures/types.ts';
import type { Peer, RunningPeer } from './peers/types.ts';
import type { World } from './world.ts';

/** Readings of Sallyport alone are kept under this name. */
export const own = 'own';

export interface Failure {
  /** Title of the peer, or what was measured of Sallyport alone. */
  readonly peer: string;
  readonly measure: string;
  readonly round: number;
  readonly problem: string;
}

export interface Taken {
  /** Every reading of one figure, by peer name and figure id. */
  readonly readings: Readonly<Record<string, Readonly<Record<string, readonly number[]>>>>;
  readonly failures: readonly Failure[];
}

export interface Plan {
  readonly peers: readonly Peer[];
  readonly measures: readonly Measure[];
  readonly ownMeasures: readonly OwnMeasure[];
  readonly scale: Scale;
  readonly world: World;
  readonly say: (line: string) => void;
}

export async function takeRounds(plan: Plan): Promise<Taken> {
  const present = plan.peers.filter((peer) => peer.absent() === undefined);
  const book = createBook();
  const nextPort = portsInTurn();
  for (let round = 1; round <= plan.scale.rounds; round += 1) {
    const says = (what: string): void => plan.say(`round ${round} of ${plan.scale.rounds}: ${what}`);
    for (const peer of plan.measures.length === 0 ? [] : present) {
      says(peer.title);
      await takePeer(peer, { ...plan, round, book, nextPort });
    }
    for (const measure of plan.ownMeasures) {
      says(measure.title);
      const note = { peer: own, title: 'Sallyport alone', measure: measure.name, round };
      await book.take(note, async () => await measure.take(plan.world, plan.scale, round));
    }
  }
  for (const { round, peer, measure, problem } of book.taken.failures)
    plan.say(`failed: round ${round}, ${peer}, ${measure}: ${problem}`);
  return book.taken;
}

// Even ones only: the next one is for the metrics. All are below the ports that connections take.
const ports = { first: 3000, last: 9000 };

/** A port that was not used before: what still waits on an old one cannot disturb. */
function portsInTurn(): () => number {
  let next = ports.first;
  return () => {
    next = next >= ports.last ? ports.first : next + 2;
    return next;
  };
}

interface Note {
  readonly peer: string;
  readonly title: string;
  readonly measure: string;
  readonly round: number;
}

interface Book {
  readonly taken: Taken;
  /** Keeps what `action` reads, or why it could not; true when it could. */
  take(note: Note, action: () => Promise<Readings>): Promise<boolean>;
}

function createBook(): Book {
  const readings: Record<string, Record<string, number[]>> = {};
  const failures: Failure[] = [];
  return {
    taken: { readings, failures },
    async take({ peer, title, measure, round }, action) {
      try {
        const row = (readings[peer] ??= {});
        for (const [id, value] of Object.entries(await action())) (row[id] ??= []).push(value);
        return true;
      } catch (error) {
        const problem = error instanceof Error ? error.message : String(error);
        failures.push({ peer: title, measure, round, problem });
        return false;
      }
    },
  };
}

interface Turn extends Plan {
  readonly round: number;
  readonly book: Book;
  readonly nextPort: () => number;
}

/** Every measure on one peer: those that want it fresh have a process of their own, the others share one. */
async function takePeer(peer: Peer, turn: Turn): Promise<void> {
  const shared = turn.measures.filter(({ wantsFresh }) => wantsFresh !== true);
  const alone = turn.measures.filter(({ wantsFresh }) => wantsFresh === true);
  for (const measures of [shared, ...alone.map((measure) => [measure])])
    if (measures.length > 0) await takeStarted(peer, measures, turn);
}

async function takeStarted(peer: Peer, measures: readonly Measure[], turn: Turn): Promise<void> {
  const { world, scale, round, book } = turn;
  const port = turn.nextPort();
  const folder = join(world.folder, `${peer.name}-${port}`);
  mkdirSync(folder);
  const note = (measure: string): Note => ({ peer: peer.name, title: peer.title, measure, round });
  const started: RunningPeer[] = [];
  await book.take(note('start'), async () => {
    const running = await peer.start(world, { port, folder });
    started.push(running);
    await warm(running, world, scale);
    return {};
  });
  for (const running of started) {
    for (const measure of measures)
      await book.take(note(measure.name), async () => await measure.take(running, world, scale));
    await running.stop();
  }
}

async function warm(peer: RunningPeer, world: World, { warmMs }: Scale): Promise<void> {
  await run('tunnels', peer, world, { slots: 8, ms: warmMs });
  await run('down', peer, world, { slots: 1, ms: warmMs / 4 });
}
