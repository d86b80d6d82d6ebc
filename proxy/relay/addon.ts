// Loads the native relay that compile.sh built, and says what it offers. Carries nothing itself; binding.c is the other side.
import { createRequire } from 'node:module';

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

/** The addon, or why there is none. */
export function loadAddon(): RelayAddon | { readonly problem: string } {
  try {
    const loaded: unknown = createRequire(import.meta.url)('./build/relay.node');
    return isAddon(loaded) ? loaded : { problem: 'what was built is something else' };
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND';
    return { problem: isMissing ? 'it is not built' : String(error).split('\n', 1).join('') };
  }
}

function isAddon(loaded: unknown): loaded is RelayAddon {
  if (typeof loaded !== 'object' || loaded === null) return false;
  return ['create', 'reserve', 'open', 'end', 'bytes', 'stop'].every(
    (name) => typeof Reflect.get(loaded, name) === 'function',
  );
}
