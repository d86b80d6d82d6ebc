// Reads what the fence has dropped, by class. Counts packets since the table was last applied; never resets them.
import { counterOf, dropClasses, type DropClass } from './classes.ts';
import { FenceError } from './errors.ts';
import type { Nft } from './transaction.ts';

/** Packets dropped, one entry for each class. Rejects with a FenceError `nft_failed` when the table or a counter is gone. */
export async function readDrops(nft: Nft, table: string): Promise<ReadonlyMap<DropClass, number>> {
  const objects = await nft.list(table);
  const counters = objects.map((object) => object['counter']).filter((one) => one !== undefined);
  return new Map(
    dropClasses.map(({ name }): [DropClass, number] => {
      const packets = counters.find((one) => one['name'] === counterOf(name))?.['packets'];
      if (typeof packets !== 'number') throw gone(table, name);
      return [name, packets];
    }),
  );
}

function gone(table: string, name: DropClass): FenceError {
  return new FenceError(
    'nft_failed',
    `table \`${table}\` has no counter \`${counterOf(name)}\``,
    'the fence is not in place: `sallyport fence verify` says what differs',
  );
}
