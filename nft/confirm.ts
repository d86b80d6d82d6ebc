// `apply --confirm`: applies, looks whether anything else suffered, and goes back unless a person says that it may stay. Decides no rule.
import { applyFence, extraFamilies } from './apply.ts';
import { FenceError } from './errors.ts';
import { familiesOf } from './fence.ts';
import { armGuard, type Guard } from './guard.ts';
import type { Place, TableLock } from './lock.ts';
import { compareSurroundings, lookAround, refuseLockOut } from './management.ts';
import type { Family } from './objects.ts';
import type { FenceSpec } from './spec.ts';
import type { WatchedNft } from './transaction.ts';

export interface ConfirmedApply {
  readonly nft: WatchedNft;
  readonly spec: FenceSpec;
  readonly place: Place;
  readonly lock: TableLock;
  /** Address from which this machine is being managed, where it is known. */
  readonly peer: string | undefined;
  /** Seconds until the rules from before come back. */
  readonly seconds: number;
  /** Said once the fence is in place and awaits its confirmation. */
  readonly onPending: () => void;
  /** Aborted when the process is told to end: the rules go back at once. */
  readonly stop: AbortSignal;
}

/** Resolves once it was confirmed. Rejects with a FenceError; `rolled_back` when the rules are again as before. */
export async function applyUnlessUnconfirmed(apply: ConfirmedApply): Promise<void> {
  const { nft, spec, place, lock, peer, seconds, onPending, stop } = apply;
  await refuseLockOut(spec, peer);
  const before = await lookAround(nft, spec, peer);
  const rules = await nft.save(spec.table, await familiesNow(nft, spec));
  const guard = await armGuard(place, lock, rules, seconds);
  try {
    await applyFence(nft, spec);
  } catch (error) {
    await goBack(guard);
    throw error;
  }
  const worse = compareSurroundings(before, await lookAround(nft, spec, peer));
  if (worse.length > 0) {
    await goBack(guard);
    throw rolledBack(worse.join('; '));
  }
  stop.addEventListener('abort', () => guard.restore());
  if (stop.aborted) guard.restore();
  onPending();
  if ((await guard.ended) === 'restored')
    throw rolledBack(stop.aborted ? 'it was interrupted' : `nobody confirmed it within ${seconds} s`);
}

/** Those that the new fence has, and those that the old one had. */
async function familiesNow(nft: WatchedNft, spec: FenceSpec): Promise<readonly Family[]> {
  return [...new Set([...familiesOf(spec), ...(await extraFamilies(nft, spec.table))])];
}

async function goBack(guard: Guard): Promise<void> {
  guard.restore();
  await guard.ended;
}

function rolledBack(why: string): FenceError {
  return new FenceError(
    'rolled_back',
    `the rules are again as they were before: ${why}`,
    'keep a fence with `sallyport fence confirm`, from another session than the one that applied it',
  );
}
