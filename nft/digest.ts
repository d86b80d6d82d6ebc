// A digest of what the kernel holds as our table: equal for equal rules in equal order, whatever handles and counters say. Judges nothing.
import { createHash } from 'node:crypto';
import { readShape } from './shape.ts';
import type { Nft } from './transaction.ts';

/** SHA-256 in hex of the meaning of `table` as it is now; a missing table has one of its own. Throws a FenceError. */
export async function digestFence(nft: Nft, table: string): Promise<string> {
  const listings = (['inet', 'bridge', 'netdev'] as const).map(
    async (family) => await nft.list(table, family),
  );
  const shape = readShape((await Promise.all(listings)).flat());
  const chains = [...shape.chains].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const counters = shape.counters.toSorted();
  return createHash('sha256')
    .update(JSON.stringify({ ...shape, chains, counters }))
    .digest('hex');
}
