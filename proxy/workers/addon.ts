// What the native part of this folder offers: the shared board, and death with the parent. Does nothing itself; binding.c is the other side.
import { loadAddon } from '../addon.ts';

/** A mapped board, opaque. */
export interface BoardHandle {
  readonly isBoard: never;
}

/** Numbers of workers, principals and slots start at 0. What is out of range throws RangeError. `-errno` is a negative number. */
export interface WorkersAddon {
  /** A sealed memory file of the right size; its descriptor, or -errno. */
  create(workers: number, principals: number, slots: number): number;
  map(fd: number, workers: number, principals: number, slots: number): BoardHandle | number;
  take(
    board: BoardHandle,
    worker: number,
    kind: number,
    principal: number,
    maxAll: number,
    maxEach: number,
  ): boolean;
  give(board: BoardHandle, worker: number, kind: number, principal: number): void;
  /** Places held by all workers. */
  held(board: BoardHandle, kind: number): number;
  /** Times in ns. */
  pass(board: BoardHandle, principal: number, now: number, interval: number, burst: number): boolean;
  /** Gives back the places of a dead worker and clears its records. */
  forget(board: BoardHandle, worker: number): void;
  beat(board: BoardHandle, worker: number): void;
  beats(board: BoardHandle, worker: number): number;
  /** Slots from this number on were never written. */
  used(board: BoardHandle, worker: number): number;
  /** False when `record` is too long. */
  write(board: BoardHandle, worker: number, slot: number, record: string): boolean;
  mark(board: BoardHandle, worker: number, slot: number, phase: number): void;
  count(board: BoardHandle, worker: number, slot: number, up: number, down: number): void;
  /** Null for a free or unfinished slot; `out` gets phase, up and down. */
  read(board: BoardHandle, worker: number, slot: number, out: Float64Array): string | null;
  /** ns on CLOCK_MONOTONIC. */
  clock(): number;
  /** The kernel kills this process when `parent` dies; false when it is gone already. */
  dieWith(parent: number): boolean;
}

const names = [
  'create',
  'map',
  'take',
  'give',
  'held',
  'pass',
  'forget',
  'beat',
  'beats',
  'used',
  'write',
  'mark',
  'count',
  'read',
  'clock',
  'dieWith',
] as const;

/** The addon, or why there is none. */
export function loadWorkersAddon(): WorkersAddon | { readonly problem: string } {
  return loadAddon<WorkersAddon>('workers', names);
}
