// One atomic change to the kernel's rules, and what can carry it out. Two changes only: replace a table of ours whole, or remove it.
import type { Addable, Family, NftObject } from './objects.ts';

export type Command =
  | { readonly add: Addable }
  | { readonly delete: { readonly table: { readonly family: Family; readonly name: string } } };

/** The body of `nft -j -f`: all of it happens, or none. */
export interface Transaction {
  readonly nftables: readonly Command[];
}

/** The kernel (client.ts), or a stand-in for it (fake.ts). Every method rejects with a FenceError. */
export interface Nft {
  /** Asks the kernel whether it would take the transaction; changes nothing. */
  check(tx: Transaction): Promise<void>;
  apply(tx: Transaction): Promise<void>;
  /** Everything in one table of ours, `inet` unless told otherwise; empty when there is no such table (a table lists at least itself). */
  list(table: string, family?: Family): Promise<readonly NftObject[]>;
}

/** The kernel as a watch needs it: other tables too, and word of changes. */
export interface WatchedNft extends Nft {
  /** Every table of every family, without the contents of named sets. */
  ruleset(): Promise<readonly NftObject[]>;
  /** Tables of ours as a file for `nft -f` that puts exactly these back, and takes away those that are not there now; the kernel would take it. */
  save(table: string, families: readonly Family[]): Promise<string>;
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
export function replaceTable(family: Family, name: string, content: readonly Addable[]): Transaction {
  return {
    nftables: [
      ...removeTable(family, name).nftables,
      addTable(family, name),
      ...content.map((one) => ({ add: one })),
    ],
  };
}

/** Succeeds also when there is no such table. */
export function removeTable(family: Family, name: string): Transaction {
  return { nftables: [addTable(family, name), { delete: { table: { family, name } } }] };
}

/** All of several changes, or none. */
export function together(...parts: readonly Transaction[]): Transaction {
  return { nftables: parts.flatMap(({ nftables }) => nftables) };
}

function addTable(family: Family, name: string): Command {
  return { add: { table: { family, name } } };
}
