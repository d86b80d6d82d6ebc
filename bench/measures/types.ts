// What a measure is: a name for --measures, the figures it gives, and how it is taken on a running peer. Prints nothing.
import type { RunningPeer } from '../peers/types.ts';
import type { World } from '../world.ts';

/** A column of the report. */
export interface Figure {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  readonly digits: number;
  readonly better: 'less' | 'more';
}

/** Figures by id. One that does not apply to a peer is left out. */
export type Readings = Readonly<Record<string, number>>;

export interface Measure {
  readonly name: string;
  readonly title: string;
  /** What was done, for the reader of the report. */
  readonly about: (scale: Scale) => string;
  readonly figures: (scale: Scale) => readonly Figure[];
  /** True when the peer must not have carried anything else before. */
  readonly wantsFresh?: boolean;
  /** Throws FailedRun when a byte or a tunnel was lost. */
  take(peer: RunningPeer, world: World, scale: Scale): Promise<Readings>;
}

/** A measure of Sallyport alone. */
export interface OwnMeasure extends Pick<Measure, 'name' | 'title' | 'about' | 'figures'> {
  take(world: World, scale: Scale, round: number): Promise<Readings>;
}

/** How long and how much. */
export interface Scale {
  readonly rounds: number;
  readonly warmMs: number;
  readonly tunnelsMs: number;
  readonly bulkMs: number;
  readonly tripsMs: number;
  /** Before memory is read: for what a process gives back to the system after a burst. */
  readonly settleMs: number;
  /** Of one batch of nine. */
  readonly verdictMs: number;
  /** Idle tunnels held open, ascending. */
  readonly stages: readonly [number, number];
  /** Of the policies that decide() is measured with, and of the one that is reloaded (the last). */
  readonly rules: readonly number[];
}

/** A run that lost or changed something: reported, and no part of any median. */
export class FailedRun extends Error {
  override readonly name = 'FailedRun';
}
