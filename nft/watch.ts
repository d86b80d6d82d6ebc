// Keeps one fence as planned: looks at once, after every change the kernel tells of, and on a timer. What a look does is watch-look.ts's.
import { createTally, readDrops } from './drops.ts';
import type { NftMonitor } from './transaction.ts';
import { lookOnce, type FenceReport, type LookState, type WatchOptions } from './watch-look.ts';
import { createTeller } from './watch-tell.ts';

export interface FenceWatch {
  /** Looks now. Resolves with what was found, after it was reported. */
  look(): Promise<FenceReport>;
  /** Asks for a look soon; many askers get one. */
  readonly soon: () => void;
  /** Counts drops from now on. */
  zero(): Promise<void>;
  stop(): Promise<void>;
}

/** Looks once before it resolves. */
export async function watchFence(options: WatchOptions): Promise<FenceWatch> {
  const tally = createTally();
  const teller = createTeller(options.report);
  const state: LookState = {
    spec: options.spec,
    isClosed: false,
    repairs: 0,
    recent: [],
    bypasses: [],
    foreignDue: 0,
    isOver: false,
  };
  let busy: Promise<unknown> = Promise.resolve();
  let isQueued = false;
  const inTurn = async <T>(work: () => Promise<T>): Promise<T> => {
    const turn = busy.then(work);
    busy = turn.catch(() => undefined);
    return await turn;
  };
  const look = async (): Promise<FenceReport> => {
    const { report, told } = await inTurn(async () => {
      isQueued = false;
      const found = await lookOnce({ ...options, tally, teller, state });
      return { report: found, told: teller.tell(found) };
    });
    // Not in turn: a listener that stands still would hold up the next repair.
    await told;
    return report;
  };
  const soon = (): void => {
    if (isQueued || state.isOver) return;
    isQueued = true;
    void look();
  };
  const listen = keepListening(options, state, soon);
  await look();
  const timer = setInterval(() => {
    listen.again();
    soon();
  }, options.everyMs ?? 1000);
  return {
    look,
    soon,
    zero: async () => await inTurn(async () => tally.zero(await readDrops(options.nft, options.spec.table))),
    async stop() {
      state.isOver = true;
      clearInterval(timer);
      listen.stop();
      await busy;
      await teller.stop();
    },
  };
}

/** News about our table is worth a look at once; about another, a look at all tables. A monitor that ended is started at the next tick. */
function keepListening(
  { nft, spec }: WatchOptions,
  state: LookState,
  soon: () => void,
): { again(): void; stop(): void } {
  let monitor: NftMonitor | undefined;
  const again = (): void => {
    if (monitor !== undefined || state.isOver) return;
    monitor = nft.monitor(
      (lines) => {
        if (!lines.split('\n').every((line) => line === '' || line.includes(`"${spec.table}"`)))
          state.foreignDue = 0;
        soon();
      },
      () => {
        monitor = undefined;
      },
    );
  };
  again();
  return { again, stop: () => monitor?.stop() };
}
