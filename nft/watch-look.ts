// One look of the watch: compares, repairs what is ours, and closes the sandboxes' links while that cannot be done. It decides no rule, tells nobody,
// and touches no other table.
import { applyFence } from './apply.ts';
import { dropsIn, type DropTally } from './drops.ts';
import { findBypasses } from './foreign.ts';
import type { NftObject } from './objects.ts';
import type { FenceSpec } from './spec.ts';
import type { WatchedNft } from './transaction.ts';
import { compareFence, listFence } from './verify.ts';
import type { Teller } from './watch-tell.ts';

/** The fence at one moment. Also what a proxy's `PUT /fence` takes. */
export interface FenceReport {
  readonly ok: boolean;
  /** What differs from the plan, or goes around it, in words. */
  readonly problems: readonly string[];
  /** Packets dropped since the watch began, or since `zero`. */
  readonly drops: Readonly<Record<string, number>>;
  /** How often the watch has put the table back. */
  readonly repairs: number;
}

/** A change for the better or the worse; in between there is none. */
export type WatchEvent =
  | { readonly event: 'repaired'; readonly problems: readonly string[]; readonly ms: number }
  | { readonly event: 'closed'; readonly problems: readonly string[] }
  | { readonly event: 'opened' }
  | { readonly event: 'followed'; readonly ports: readonly string[] };

export interface WatchOptions {
  readonly nft: WatchedNft;
  readonly spec: FenceSpec;
  /** The spec with who is plugged into its bridges at this moment; default: `spec` as it is. */
  readonly members?: () => Promise<FenceSpec>;
  /** Take the sandboxes' links down, and up again. May reject; it is tried again at the next look. */
  readonly links: { close(): Promise<void>; open(): Promise<void> };
  /** Gets what the looks found, one at a time, and no look waits for it. A broken fence that it rejected comes again until it is taken. */
  readonly report: (report: FenceReport) => Promise<void>;
  readonly news: (event: WatchEvent) => void;
  /** Milliseconds between looks when nothing happens; default 1000. */
  readonly everyMs?: number;
}

/** Whoever takes the table away more often than this is not argued with: the links stay down until it stands still. */
const most = { repairs: 10, inMs: 10_000 } as const;
/** Other tables are read after news of a change, and this often without. */
const foreignEveryMs = 10_000;

/** What a watch remembers between looks. */
export interface LookState {
  /** As of the last look that could read it. */
  spec: FenceSpec;
  isClosed: boolean;
  repairs: number;
  /** When the last repairs were made. */
  recent: readonly number[];
  bypasses: readonly string[];
  /** When other tables are to be read again. */
  foreignDue: number;
  isOver: boolean;
}

/** A watch as one look sees it. */
export interface Look extends WatchOptions {
  readonly tally: DropTally;
  readonly teller: Pick<Teller, 'owe'>;
  readonly state: LookState;
}

/** Looks and acts. Never rejects: a fence that cannot be read is broken. */
export async function lookOnce(look: Look): Promise<FenceReport> {
  const first = await see(look);
  if (first.ours.length === 0) return await settle(look, first);
  const started = performance.now();
  if (!(await repair(look))) return await settle(look, first);
  look.teller.owe(first.ours);
  look.news({ event: 'repaired', problems: first.ours, ms: Math.round(performance.now() - started) });
  return await settle(look, await see(look));
}

interface Sight {
  /** Problems with our table: a repair may help. */
  readonly ours: readonly string[];
  /** Problems that are not ours to repair. */
  readonly others: readonly string[];
}

async function see(look: Look, isSecond = false): Promise<Sight> {
  const { nft, tally, state } = look;
  try {
    const { ours, listing } = await compareNow(look);
    if (ours.length === 0) tally.take(dropsIn(listing, state.spec.table));
    const now = performance.now();
    if (now >= state.foreignDue) {
      state.foreignDue = now + foreignEveryMs;
      state.bypasses = findBypasses(await nft.ruleset(), state.spec);
    }
    return { ours, others: state.bypasses };
  } catch (error) {
    state.foreignDue = 0;
    // Rules that change while they are listed may fail one listing, hardly two.
    return isSecond ? { ours: [], others: [messageOf(error)] } : await see(look, true);
  }
}

/** A bridge whose members changed is followed: that is no break, as long as the table was right for those from before. */
async function compareNow(
  look: Look,
): Promise<{ readonly ours: readonly string[]; readonly listing: readonly NftObject[] }> {
  const { nft, spec, members, state, news } = look;
  const before = state.spec;
  state.spec = members === undefined ? spec : await members();
  const listing = await listFence(nft, state.spec);
  const ours = compareFence(state.spec, listing);
  if (ours.length === 0 || compareFence(before, listing).length > 0) return { ours, listing };
  await applyFence(nft, state.spec);
  news({ event: 'followed', ports: (state.spec.networks ?? []).flatMap((network) => network.members) });
  return { ours: [], listing: await listFence(nft, state.spec) };
}

async function repair({ nft, state }: Look): Promise<boolean> {
  if (state.isOver || isContested(state)) return false;
  try {
    await applyFence(nft, state.spec);
  } catch {
    return false;
  }
  state.repairs += 1;
  state.recent = [...state.recent, performance.now()];
  return true;
}

function isContested(state: LookState): boolean {
  state.recent = state.recent.filter((at) => at > performance.now() - most.inMs);
  return state.recent.length >= most.repairs;
}

/** Closes or opens the links as the sight demands. */
async function settle(look: Look, sight: Sight): Promise<FenceReport> {
  const { state } = look;
  const contested = isContested(state)
    ? [`it was put back ${most.repairs} times in ${most.inMs / 1000} s: something else keeps taking it`]
    : [];
  const problems = [...sight.ours, ...sight.others, ...contested];
  const moved = await moveLinks(look, problems);
  return {
    ok: problems.length + moved.length === 0,
    problems: [...problems, ...moved],
    drops: Object.fromEntries(look.tally.sum),
    repairs: state.repairs,
  };
}

/** Lowered at every look, not at the first alone: whoever took the rules may also raise the link. */
async function moveLinks(
  { links, state, news }: Look,
  problems: readonly string[],
): Promise<readonly string[]> {
  const isBad = problems.length > 0;
  if (!isBad && !state.isClosed) return [];
  try {
    await (isBad ? links.close() : links.open());
  } catch (error) {
    if (isBad && !state.isClosed) news({ event: 'closed', problems: [...problems, messageOf(error)] });
    state.isClosed = true;
    return [messageOf(error)];
  }
  if (isBad !== state.isClosed) news(isBad ? { event: 'closed', problems } : { event: 'opened' });
  state.isClosed = isBad;
  return [];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
