// What each word of `sallyport fence` does with a spec: the answer as text or JSON, and the exit status. Parses no words.
import { applyFence } from './apply.ts';
import { readDrops } from './drops.ts';
import { planFence } from './fence.ts';
import { findBypasses } from './foreign.ts';
import { printDrops, printPlan } from './print.ts';
import type { FenceSpec } from './spec.ts';
import type { WatchedNft } from './transaction.ts';
import { verifyFence } from './verify.ts';
import { runWatch } from './watch-command.ts';

/** Ends: 0 done or holds, 1 the kernel differs from the plan, 2 bad use or bad spec, 69 the kernel cannot be asked or refused. */
export const exitCodes = { ok: 0, differs: 1, usage: 2, cannot: 69 } as const;

/** What a command works with; tests give a fake nft and their own ears. */
export interface FenceIo {
  readonly nft: WatchedNft;
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
}

export type Verb = (io: FenceIo, spec: FenceSpec, flags: VerbFlags) => Promise<number>;

export const plan: Verb = async (io, spec, { json }) => {
  const tx = planFence(spec);
  io.out(json === true ? JSON.stringify(tx, null, 2) : printPlan(tx));
  return exitCodes.ok;
};

export const apply: Verb = async (io, spec, { json }) => {
  await applyFence(io.nft, spec);
  const interfaces = spec.sandboxes.map((one) => one.interface);
  const words = `table inet ${spec.table} is in place and reads back as planned, around ${interfaces.join(', ')}`;
  io.out(json === true ? JSON.stringify({ table: spec.table, applied: true, interfaces }) : words);
  return exitCodes.ok;
};

export const verify: Verb = async (io, spec, { json }) => {
  const differences = await verifyFence(io.nft, spec);
  const bypasses = findBypasses(await io.nft.ruleset(), spec);
  const isSame = differences.length === 0;
  const holds = isSame && bypasses.length === 0;
  const drops = isSame ? await readDrops(io.nft, spec.table) : new Map<string, number>();
  const words = [
    ...(holds ? [`table inet ${spec.table} holds`] : []),
    ...(isSame ? [] : [`table inet ${spec.table} differs from the plan:`, ...differences.map(indent)]),
    ...(bypasses.length === 0 ? [] : ['other tables go around it:', ...bypasses.map(indent)]),
    ...(isSame ? [printDrops(drops)] : []),
  ];
  const facts = { table: spec.table, holds, differences, bypasses, drops: Object.fromEntries(drops) };
  io.out(json === true ? JSON.stringify(facts) : words.join('\n'));
  return holds ? exitCodes.ok : exitCodes.differs;
};

export const watch: Verb = async (io, spec, { json, admin }) => {
  await runWatch({ nft: io.nft, spec, admin, isJson: json === true, out: io.out, stop: io.stop() });
  return exitCodes.ok;
};

function indent(line: string): string {
  return `  ${line}`;
}
