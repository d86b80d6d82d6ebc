// Puts a fence into the kernel, and takes it out. Each is one atomic transaction; success is claimed only after reading back.
import { FenceError } from './errors.ts';
import { familiesOf, planFence } from './fence.ts';
import type { Family } from './objects.ts';
import { checkTable, type FenceSpec } from './spec.ts';
import { removeTable, together, type Nft, type Transaction } from './transaction.ts';
import { verifyFence } from './verify.ts';

/**
 * Replaces the table of `spec` whole, its counters included: they start at 0. Same spec, same result, however often.
 * Rejects with a FenceError; unless the code is `nft_failed` after reading back, the kernel's rules are as before.
 */
export async function applyFence(nft: Nft, spec: FenceSpec): Promise<void> {
  const tx = together(...(await strays(nft, spec)), planFence(spec));
  await nft.check(tx);
  await nft.apply(tx);
  const differences = await verifyFence(nft, spec);
  if (differences.length === 0) return;
  throw new FenceError(
    'nft_failed',
    `the kernel took the fence but does not hold it: ${differences.join('; ')}`,
    'something else changes our table, or this nft version prints it otherwise: start nothing behind it',
  );
}

/** A fence from before may have had a table more. */
async function strays(nft: Nft, spec: FenceSpec): Promise<readonly Transaction[]> {
  const planned = familiesOf(spec);
  return (await extraFamilies(nft, spec.table))
    .filter((family) => !planned.includes(family))
    .map((family) => removeTable(family, spec.table));
}

/** Families beyond `inet` in which there is a table of that name now. */
export async function extraFamilies(nft: Nft, table: string): Promise<readonly Family[]> {
  const looks = (['bridge', 'netdev'] as const).map(async (family) =>
    (await nft.list(table, family)).length === 0 ? [] : [family],
  );
  return (await Promise.all(looks)).flat();
}

/** Removes our tables of that name and their counters; succeeds when they are already gone. Take the link down first. */
export async function removeFence(nft: Nft, table: string): Promise<void> {
  const extras = (await extraFamilies(nft, checkTable(table))).map((family) => removeTable(family, table));
  await nft.apply(together(removeTable('inet', table), ...extras));
}
