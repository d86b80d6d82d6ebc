// What the native relay offers to JavaScript. Carries nothing itself; binding.c is the other side.
import { loadAddon } from '../addon.ts';

/** One relay with its threads, opaque. */
export interface Engine {
  readonly isRelayEngine: never;
}

/** Numbers only: a tunnel is known by its number, which may be used again once its end was told. */
export interface RelayAddon {
  /** Starts the threads. @throws Error when the machine has none to give */
  create(onEnd: (id: number, cause: number, up: number, down: number) => void): Engine;
  /**
   * Hands two connected non-blocking sockets to the relay, which closes them whatever comes. Budgets are Infinity for none. -1 when there is no
   * memory, or after stop(): then both were reset.
   */
  open(
    engine: Engine,
    clientFd: number,
    upstreamFd: number,
    upSent: number,
    downSent: number,
    upBudget: number,
    downBudget: number,
    idleMs: number,
  ): number;
  /** Wakes the thread for what was opened: once for many. */
  flush(engine: Engine): void;
  /** Its end is told later. */
  sever(engine: Engine, id: number): void;
  /** Writes the bytes up and down so far to `out`, which has two places. */
  bytes(engine: Engine, id: number, out: Float64Array): void;
  /** Severs what is open, tells all ends, ends the threads for good. */
  stop(engine: Engine): void;
}

const names = ['create', 'open', 'flush', 'sever', 'bytes', 'stop'] as const;

/** The addon, or why there is none. */
export function loadRelayAddon(): RelayAddon | { readonly problem: string } {
  return loadAddon<RelayAddon>('relay', names);
}
