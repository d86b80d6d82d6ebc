// What the native relay offers to JavaScript. Carries nothing itself; binding.c is the other side.
import { loadAddon } from '../addon.ts';

/** One relay thread to be, opaque. */
export interface Engine {
  readonly isRelayEngine: never;
}

/** Numbers only: a tunnel is known by its number, which may be used again once its end was told. */
export interface RelayAddon {
  create(onEnd: (id: number, cause: number, up: number, down: number) => void): Engine;
  /** Duplicates both descriptors and starts the thread if there is none; -1 when the machine has no more to give. */
  reserve(engine: Engine, clientFd: number, upstreamFd: number): number;
  /** Hands a reserved tunnel to the thread. Budgets are Infinity for none. */
  open(
    engine: Engine,
    id: number,
    upSent: number,
    downSent: number,
    upBudget: number,
    downBudget: number,
    idleMs: number,
  ): void;
  /** Severs an open tunnel, whose end is told later; gives a reserved one back, of which nothing is told. */
  end(engine: Engine, id: number): void;
  /** Writes the bytes up and down so far to `out`, which has two places. */
  bytes(engine: Engine, id: number, out: Float64Array): void;
  /** Severs what is open, tells all ends, ends the thread. */
  stop(engine: Engine): void;
}

const names = ['create', 'reserve', 'open', 'end', 'bytes', 'stop'] as const;

/** The addon, or why there is none. */
export function loadRelayAddon(): RelayAddon | { readonly problem: string } {
  return loadAddon<RelayAddon>('relay', names);
}
