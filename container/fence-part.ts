// Puts the fence of one run in place and says what it is made of. It decides no rule: nft/ does; fence-watch.ts keeps it there.
import {
  applyFence,
  createNft,
  digestFence,
  FenceError,
  readDrops,
  removeFence,
  type Drops,
  type FenceSpec,
  type WatchedNft,
} from '../nft/index.ts';
import type { AddressPorts } from './doors.ts';
import { dropLogOf } from './drop-log.ts';
import type { RunNames } from './names.ts';
import { RunRefused } from './refusal.ts';
import type { Resource } from './resource.ts';
import { pool, type Slot } from './slot.ts';

export type { Drops } from '../nft/index.ts';

/** A fence that is in force. */
export interface FencePart extends Resource {
  readonly nft: WatchedNft;
  readonly spec: FenceSpec;
  drops(): Promise<Drops>;
  /** Digest of the rules as the kernel holds them. */
  digest(): Promise<string>;
}

/** What the fence admits. */
export interface OpenPorts {
  /** TCP ports of the proxy's address. */
  readonly ports: readonly number[];
  /** UDP ports of the proxy's address. */
  readonly datagrams: readonly number[];
  /** TCP ports of further addresses of the link. */
  readonly services: readonly AddressPorts[];
}

/** What the fence of a run is made of. */
interface FenceParts {
  readonly names: RunNames;
  readonly slot: Slot;
  readonly open: OpenPorts;
  /** True when its drops are told to a listener (drop-log.ts). */
  readonly isLogged: boolean;
}

/** Checks, applies and reads back the rules of one run. Throws RunRefused (boundary) when any of it fails. */
export async function raiseFence({ names, slot, open, isLogged }: FenceParts): Promise<FencePart> {
  const ends = { interface: names.link, address: slot.sandbox, proxy: slot.proxy };
  const { ports, datagrams, services } = open;
  const sandbox = {
    name: names.id,
    ...ends,
    ports,
    ...(datagrams.length > 0 && { datagrams }),
    ...(services.length > 0 && { services }),
    frames: true,
  };
  const log = isLogged ? { log: dropLogOf(slot) } : {};
  const spec: FenceSpec = { table: names.table, sandboxes: [sandbox], pool, ...log };
  const nft = createNft();
  await applyFence(nft, spec).catch((error: unknown) => {
    throw asRefusal(error);
  });
  return {
    name: `table ${names.table}`,
    nft,
    spec,
    drops: async () => await readDrops(nft, names.table),
    digest: async () => await digestFence(nft, names.table),
    release: async () => await removeFence(nft, names.table),
  };
}

function asRefusal(error: unknown): unknown {
  if (!(error instanceof FenceError)) return error;
  return new RunRefused('boundary', `the fence cannot be built: ${error.message}`, error.help, {
    cause: error,
  });
}
