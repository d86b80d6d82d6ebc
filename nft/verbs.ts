// What each word of `sallyport fence` does with a spec: the answer as text or JSON, and the exit status. Parses no words.
import { applyFence } from './apply.ts';
import type { BridgeReader } from './bridge.ts';
import { applyUnlessUnconfirmed } from './confirm.ts';
import { readDrops } from './drops.ts';
import { FenceError } from './errors.ts';
import { planFence } from './fence.ts';
import { findBypasses } from './foreign.ts';
import { underLock } from './lock.ts';
import { printDrops, printPlan } from './print.ts';
import type { Resolvers } from './resolver.ts';
import { linksOf, type FenceSpec } from './spec.ts';
import type { WatchedNft } from './transaction.ts';
import { verifyFence } from './verify.ts';
import { secondLinks } from './second-links.ts';
import { runWatch } from './watch-command.ts';

/**
 * Ends: 0 done or holds, 1 the kernel differs from the plan or was rolled back, 2 bad use or bad spec, 69 the kernel cannot be asked or refused,
 * 75 somebody else is at the same table.
 */
export const exitCodes = { ok: 0, differs: 1, usage: 2, cannot: 69, busy: 75 } as const;

/** What a command works with; tests give a fake nft and their own ears. */
export interface FenceIo {
  readonly nft: WatchedNft;
  readonly bridges: BridgeReader;
  readonly resolvers: Resolvers;
  readonly secondLinks: typeof secondLinks;
  /** Folder of locks and of rules that may come back. */
  readonly folder: string;
  /** Address from which this machine is being managed, where it is known. */
  readonly peer: () => Promise<string | undefined>;
  /** Aborted when the process is told to end. */
  readonly stop: () => AbortSignal;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly exit: (code: number) => void;
}

/** The flags that more than one word has. */
export interface VerbFlags {
  readonly json?: true;
  /** Admin socket of the proxy that a watch tells. */
  readonly admin?: string;
  /** Go back after this time, as `30s`, unless it is confirmed. */
  readonly confirm?: string;
}

export type Verb = (io: FenceIo, spec: FenceSpec, flags: VerbFlags) => Promise<number>;

export const plan: Verb = async (io, spec, { json }) => {
  const tx = planFence(spec);
  io.out(json === true ? JSON.stringify(tx, null, 2) : printPlan(tx));
  return exitCodes.ok;
};

export const apply: Verb = async (io, spec, { json, confirm }) => {
  const { table } = spec;
  const place = { folder: io.folder, table };
  const interfaces = linksOf(spec);
  const say = (facts: object, words: string): void =>
    io.out(json === true ? JSON.stringify({ table, applied: true, ...facts, interfaces }) : words);
  const words = `table inet ${table} is in place and reads back as planned, around ${interfaces.join(', ')}`;
  if (confirm === undefined) {
    await underLock(place, async () => await applyFence(io.nft, spec));
    await afterwards(io, spec);
    say({}, words);
    return exitCodes.ok;
  }
  const seconds = readSeconds(confirm);
  const how = `it goes away in ${seconds} s unless another session says: sallyport fence confirm --table ${table}`;
  const onPending = (): void => say({ confirmWithin: seconds }, `${words}\n${how}`);
  const peer = await io.peer();
  const { nft } = io;
  await underLock(place, async (lock) => {
    await applyUnlessUnconfirmed({ nft, spec, place, lock, peer, seconds, onPending, stop: io.stop() });
  });
  await afterwards(io, spec);
  say({ confirmed: true }, `table inet ${table} was confirmed and stays`);
  return exitCodes.ok;
};

/** What is no rule around the links themselves. */
async function afterwards({ resolvers, secondLinks: find, err }: FenceIo, spec: FenceSpec): Promise<void> {
  await resolvers.settle(spec);
  for (const line of await find(spec)) err(`warning: ${line}`);
}

/** `30s` or `2m` in seconds, 1 s to 1 h. */
function readSeconds(text: string): number {
  const [, digits = '', unit = ''] = /^([1-9][0-9]{0,3})(s|m)$/.exec(text) ?? [];
  const seconds = Number(digits) * (unit === 'm' ? 60 : 1);
  if (seconds >= 1 && seconds <= 3600) return seconds;
  throw new FenceError(
    'spec_invalid',
    `\`${text.slice(0, 20)}\` is not a time from 1s to 60m`,
    'say `--confirm 30s`',
  );
}

export const verify: Verb = async (io, spec, { json }) => {
  const differences = [...(await verifyFence(io.nft, spec)), ...(await io.resolvers.verify(spec))];
  const bypasses = [...findBypasses(await io.nft.ruleset(), spec), ...(await io.secondLinks(spec))];
  const isSame = differences.length === 0;
  const holds = isSame && bypasses.length === 0;
  const drops = isSame ? await readDrops(io.nft, spec.table) : new Map<string, number>();
  const words = [
    ...(holds ? [`table inet ${spec.table} holds`] : []),
    ...(isSame ? [] : [`table inet ${spec.table} differs from the plan:`, ...differences.map(indent)]),
    ...(bypasses.length === 0 ? [] : ['there are ways around it:', ...bypasses.map(indent)]),
    ...(isSame ? [printDrops(drops)] : []),
  ];
  const facts = { table: spec.table, holds, differences, bypasses, drops: Object.fromEntries(drops) };
  io.out(json === true ? JSON.stringify(facts) : words.join('\n'));
  return holds ? exitCodes.ok : exitCodes.differs;
};

export const watch: Verb = async (io, spec, { json, admin }) => {
  // A repair takes its turn: while somebody else is at the table, what differs is closed instead.
  const nft: WatchedNft = {
    ...io.nft,
    apply: async (tx) => {
      const place = { folder: io.folder, table: spec.table };
      await underLock(place, async () => await io.nft.apply(tx), 1);
    },
  };
  await runWatch({
    nft,
    members: async () => {
      const now = await io.bridges.read(spec);
      await io.resolvers.settle(now);
      return now;
    },
    spec,
    admin,
    isJson: json === true,
    out: io.out,
    stop: io.stop(),
  });
  return exitCodes.ok;
};

function indent(line: string): string {
  return `  ${line}`;
}
