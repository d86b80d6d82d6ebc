// Puts the fence of one run in place, watches that it stays, and tells the proxy's health page. It decides no rule: nft/ does.
import {
  applyFence,
  createNft,
  FenceError,
  readDrops,
  removeFence,
  verifyFence,
  type DropClass,
  type FenceSpec,
} from '../nft/index.ts';
import type { RunNames } from './names.ts';
import { RunRefused } from './refusal.ts';
import type { Resource } from './resource.ts';
import { pool, type Slot } from './slot.ts';

const watchMs = 1000;

/** Packets dropped so far, by class. */
export type Drops = ReadonlyMap<DropClass, number>;

/** What the fence is at one moment. */
export interface FenceState {
  readonly ok: boolean;
  /** Differences from the plan, in words. */
  readonly problems: readonly string[];
  /** Packets of the command: those of the launch gate are taken off. */
  readonly drops: Readonly<Record<string, number>>;
}

/** A fence that is in force. */
export interface FencePart extends Resource {
  drops(): Promise<Drops>;
  /** Counts from now on. */
  zero(): Promise<void>;
  state(): Promise<FenceState>;
}

/** What the fence admits at the proxy's address. */
export interface OpenPorts {
  /** TCP. */
  readonly ports: readonly number[];
  /** UDP. */
  readonly datagrams: readonly number[];
}

/** Checks, applies and reads back the rules of one run. Throws RunRefused (boundary) when any of it fails. */
export async function raiseFence(names: RunNames, slot: Slot, open: OpenPorts): Promise<FencePart> {
  const { ports, datagrams } = open;
  const sandbox = {
    name: names.id,
    interface: names.link,
    address: slot.sandbox,
    proxy: slot.proxy,
    ports,
    ...(datagrams.length > 0 && { datagrams }),
  };
  const spec: FenceSpec = { table: names.table, sandboxes: [sandbox], pool };
  const nft = createNft();
  await applyFence(nft, spec).catch((error: unknown) => {
    throw asRefusal(error);
  });
  const drops = async (): Promise<Drops> => await readDrops(nft, names.table);
  let base: Drops = new Map();
  return {
    name: `table ${names.table}`,
    drops,
    zero: async () => {
      base = await drops();
    },
    state: async () => {
      const problems = await verifyFence(nft, spec);
      const counts = problems.length === 0 ? await drops() : base;
      return { ok: problems.length === 0, problems, drops: since(base, counts) };
    },
    release: async () => await removeFence(nft, names.table),
  };
}

function since(base: Drops, now: Drops): Readonly<Record<string, number>> {
  return Object.fromEntries(
    [...now].map(([name, count]) => [name, Math.max(0, count - (base.get(name) ?? 0))]),
  );
}

function asRefusal(error: unknown): unknown {
  if (!(error instanceof FenceError)) return error;
  return new RunRefused('boundary', `the fence cannot be built: ${error.message}`, error.help, {
    cause: error,
  });
}

/** Who is told about the fence, at once and then every second. */
export interface FenceListener {
  report(state: FenceState): Promise<void>;
}

/** Reads the fence back again and again. A fence that cannot be read is reported as broken. */
export async function watchFence(fence: FencePart, listener: FenceListener): Promise<Resource> {
  const tell = async (): Promise<void> => await listener.report(await readState(fence));
  await tell();
  let busy: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    busy = busy.then(tell);
  }, watchMs);
  return {
    name: 'fence watch',
    async release() {
      clearInterval(timer);
      await busy;
    },
  };
}

async function readState(fence: FencePart): Promise<FenceState> {
  try {
    return await fence.state();
  } catch (error) {
    return { ok: false, problems: [error instanceof Error ? error.message : String(error)], drops: {} };
  }
}
