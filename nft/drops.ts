// Reads what the fence has dropped, by class. Counts packets since the table was last applied; never resets them.
import { counterOf, dropClasses, type DropClass } from './classes.ts';
import { FenceError } from './errors.ts';
import type { NftObject } from './objects.ts';
import type { Nft } from './transaction.ts';

/** Packets dropped so far, by class. */
export type Drops = ReadonlyMap<DropClass, number>;

/** Packets dropped, one entry for each class. Rejects with a FenceError `nft_failed` when the table or a counter is gone. */
export async function readDrops(nft: Nft, table: string): Promise<Drops> {
  const listings = (['inet', 'bridge', 'netdev'] as const).map(
    async (family) => await nft.list(table, family),
  );
  return dropsIn((await Promise.all(listings)).flat(), table);
}

/** The same from a listing that is at hand. Throws a FenceError `nft_failed`. */
export function dropsIn(objects: readonly NftObject[], table: string): Drops {
  const counters = objects.map((object) => object['counter']).filter((one) => one !== undefined);
  return new Map(
    dropClasses.map(({ name }): [DropClass, number] => {
      const found = counters.filter((one) => one['name'] === counterOf(name)).map((one) => one['packets']);
      const packets = found.filter((one) => typeof one === 'number');
      if (packets.length < found.length || (found.length === 0 && name !== 'layer2')) throw gone(table, name);
      return [name, packets.reduce((sum, one) => sum + one, 0)];
    }),
  );
}

/** Counts that survive the table they were read from: each new table starts at 0. */
export interface DropTally {
  /** Takes what was read, and gives the sum since the tally began. */
  take(read: Drops): Drops;
  /** Counts from now on; `read` is what stands in the kernel at this moment. */
  zero(read: Drops): void;
  readonly sum: Drops;
}

/** A tally at 0. A counter that fell was made anew: what it shows has all been dropped since. */
export function createTally(): DropTally {
  const state = { seen: new Map<DropClass, number>(), sum: new Map<DropClass, number>() };
  const take = (read: Drops): Drops => {
    for (const [name, now] of read) {
      const before = state.seen.get(name) ?? 0;
      state.sum.set(name, (state.sum.get(name) ?? 0) + (now >= before ? now - before : now));
      state.seen.set(name, now);
    }
    return state.sum;
  };
  return {
    take,
    zero: (read) => {
      take(read);
      for (const name of state.sum.keys()) state.sum.set(name, 0);
    },
    get sum() {
      return state.sum;
    },
  };
}

function gone(table: string, name: DropClass): FenceError {
  return new FenceError(
    'nft_failed',
    `table \`${table}\` has no counter \`${counterOf(name)}\``,
    'the fence is not in place: `sallyport fence verify` says what differs',
  );
}
