// The memory that parent and workers share, as one object: counts, rates, records of open tunnels. Decides nothing.
import { getSystemErrorName } from 'node:util';
import type { ProxySettings } from '../config-types.ts';
import type { BoardHandle, WorkersAddon } from './addon.ts';

/** What a board is made for; parent and workers must agree on it. */
export interface BoardShape {
  readonly workers: number;
  readonly principals: number;
  /** Records per worker: any worker may come to hold every tunnel. */
  readonly slots: number;
}

/** What the audit has of a tunnel: nothing for certain, its decision, perhaps its close. In the order of board_phase in board.h. */
export const phases = ['free', 'entered', 'recorded', 'closing'] as const;

export type Phase = (typeof phases)[number];

/** In the order of the kinds in board.h. */
export const placeKinds = ['tunnels', 'waiting', 'lingering'] as const;

export type PlaceKind = (typeof placeKinds)[number];

export interface BoardRecord {
  readonly text: string;
  readonly phase: Phase;
  readonly up: number;
  readonly down: number;
}

/** Refused clients are on record too, until their close is. */
const sparesForRefused = 8192;

export function boardShape(workers: number, settings: ProxySettings): BoardShape {
  const principals = principalIndex(settings).size;
  return { workers, principals, slots: settings.maxTunnels + sparesForRefused };
}

/** Every name that can be on a client, by its number on the board: nobody, `local`, and those of the settings. */
export function principalIndex({ principals }: ProxySettings): ReadonlyMap<string, number> {
  const names = new Set(['', 'local', ...principals.map(({ name }) => name)]);
  return new Map([...names].map((name, at) => [name, at]));
}

/** Makes the memory of a board; the descriptor is for Board and for the workers. Throws Error. */
export function createBoardMemory(addon: WorkersAddon, { workers, principals, slots }: BoardShape): number {
  return checked(addon.create(workers, principals, slots));
}

/** The descriptor or number that a call gave. Throws Error with `code` and `syscall` for -errno. */
export function checked(result: number, syscall = 'memfd_create'): number {
  if (result >= 0) return result;
  const code = getSystemErrorName(result);
  throw Object.assign(new Error(`${syscall}: ${code}`), { code, syscall });
}

/** One process's view of the board. The mapping goes with the object. */
export class Board {
  readonly addon: WorkersAddon;
  readonly shape: BoardShape;
  readonly handle: BoardHandle;
  readonly #facts = new Float64Array(3);

  constructor(addon: WorkersAddon, fd: number, shape: BoardShape) {
    const handle = addon.map(fd, shape.workers, shape.principals, shape.slots);
    if (typeof handle === 'number') throw new Error(`mmap: ${getSystemErrorName(handle)}`);
    this.addon = addon;
    this.shape = shape;
    this.handle = handle;
  }

  /** Undefined for a slot that holds nothing, or whose writer died before it was whole. */
  read(worker: number, slot: number): BoardRecord | undefined {
    const text = this.addon.read(this.handle, worker, slot, this.#facts);
    const [phase = 0, up = 0, down = 0] = this.#facts;
    return text === null ? undefined : { text, phase: phases[phase] ?? 'free', up, down };
  }

  /** What a worker has on record now. */
  records(worker: number): readonly BoardRecord[] {
    const used = this.addon.used(this.handle, worker);
    return Array.from({ length: used }, (_, slot) => this.read(worker, slot)).filter(
      (record) => record !== undefined,
    );
  }
}
