// Puts a fence into the kernel, and takes it out. Each is one atomic transaction; success is claimed only after reading back.
import { FenceError } from './errors.ts';
import { planFence } from './fence.ts';
import { checkTable, type FenceSpec } from './spec.ts';
import { removeTable, type Nft } from './transaction.ts';
import { verifyFence } from './verify.ts';

/**
 * Replaces the table of `spec` whole, its counters included: they start at 0. Same spec, same result, however often.
 * Rejects with a FenceError; unless the code is `nft_failed` after reading back, the kernel's rules are as before.
 */
export async function applyFence(nft: Nft, spec: FenceSpec): Promise<void> {
  const tx = planFence(spec);
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

/** Removes a table of ours and its counters; succeeds when it is already gone. Take the link down first. */
export async function removeFence(nft: Nft, table: string): Promise<void> {
  await nft.apply(removeTable(checkTable(table)));
}
