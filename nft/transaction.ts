// One atomic change to the kernel's rules, and what can carry it out. Two changes only: replace a table of ours whole, or remove it.
import type { Addable, NftObject } from './objects.ts';

export type Command =
  | { readonly add: Addable }
  | { readonly delete: { readonly table: { readonly family: 'inet'; readonly name: string } } };

/** The body of `nft -j -f`: all of it happens, or none. */
export interface Transaction {
  readonly nftables: readonly Command[];
}

/** The kernel (client.ts), or a stand-in for it (fake.ts). Every method rejects with a FenceError. */
export interface Nft {
  /** Asks the kernel whether it would take the transaction; changes nothing. */
  check(tx: Transaction): Promise<void>;
  apply(tx: Transaction): Promise<void>;
  /** Everything in one `inet` table of ours; empty when there is no such table (a table lists at least itself). */
  list(table: string): Promise<readonly NftObject[]>;
}

/** The kernel as a watch needs it: other tables too, and word of changes. */
export interface WatchedNft extends Nft {
  /** Every table of every family, without the contents of named sets. */
  ruleset(): Promise<readonly NftObject[]>;
  /** A table of ours as a file for `nft -f` that puts exactly this back, or takes the table away if there is none now; the kernel would take it. */
  save(table: string): Promise<string>;
  /**
   * Calls back after each change of rules that the kernel tells of, with the lines that nft printed; `onEnd` when nothing more will come.
   * A hint and no promise: the kernel drops news that nobody fetches in time.
   */
  monitor(onNews: (lines: string) => void, onEnd: () => void): NftMonitor;
}

/** Something that listens until it is stopped. */
export interface NftMonitor {
  stop(): void;
}

/**
 * No packet sees a moment without rules, and nothing of an older table stays.
 * nft 1.0.6 has no `destroy`, and `delete` of a missing table fails all: so add, delete, add.
 */
export function replaceTable(name: string, content: readonly Addable[]): Transaction {
  return {
    nftables: [...removeTable(name).nftables, addTable(name), ...content.map((one) => ({ add: one }))],
  };
}

/** Succeeds also when there is no such table. */
export function removeTable(name: string): Transaction {
  return { nftables: [addTable(name), { delete: { table: { family: 'inet', name } } }] };
}

function addTable(name: string): Command {
  return { add: { table: { family: 'inet', name } } };
}
