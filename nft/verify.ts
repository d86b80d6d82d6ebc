// Reads the fence back from the kernel and compares its whole shape and order with the plan. Changes nothing; other tables are not its business.
import { familiesOf, planFence } from './fence.ts';
import type { NftObject } from './objects.ts';
import { readShape, type ChainShape, type RuleShape, type TableShape } from './shape.ts';
import type { FenceSpec } from './spec.ts';
import type { Nft, Transaction } from './transaction.ts';

/**
 * What differs between the kernel's table and the plan for `spec`, each difference in words that name chain and position
 * (counted from 1); empty when the fence holds. Throws a FenceError when the kernel cannot be asked.
 */
export async function verifyFence(nft: Nft, spec: FenceSpec): Promise<readonly string[]> {
  return compareFence(spec, await listFence(nft, spec));
}

/** Everything in our tables of the families that `spec` needs. */
export async function listFence(nft: Nft, spec: FenceSpec): Promise<readonly NftObject[]> {
  const listings = familiesOf(spec).map(async (family) => await nft.list(spec.table, family));
  return (await Promise.all(listings)).flat();
}

/** The same for a listing that is at hand. */
export function compareFence(spec: FenceSpec, listing: readonly NftObject[]): readonly string[] {
  return comparePlan(spec.table, planFence(spec), listing);
}

/** The same for any transaction that makes tables called `table`. */
export function comparePlan(
  table: string,
  tx: Transaction,
  listing: readonly NftObject[],
): readonly string[] {
  const planned = readShape(additions(tx));
  const found = readShape(listing);
  if (found.tables.length === 0) return [`table \`${table}\` is missing`];
  return [
    ...missing([...new Set(planned.tables)], found.tables).map((name) => `table \`${name}\` is missing`),
    ...compareTables(planned, found),
  ];
}

function additions(tx: Transaction): readonly object[] {
  return tx.nftables.flatMap((command) => ('add' in command ? [command.add] : []));
}

function compareTables(planned: TableShape, found: TableShape): readonly string[] {
  const chains = new Set([...planned.chains.keys(), ...found.chains.keys()]);
  return [
    ...found.extras.map(
      (what) => `the table carries \`${what}\`, which the plan has not: it may be switched off`,
    ),
    ...missing(planned.counters, found.counters).map((name) => `counter \`${name}\` is missing`),
    ...missing(found.counters, planned.counters).map((name) => `counter \`${name}\` is not in the plan`),
    ...found.foreign.map((what) => `${what} is not in the plan`),
    ...[...chains].flatMap((name) => compareChains(name, planned.chains.get(name), found.chains.get(name))),
  ];
}

function compareChains(name: string, planned?: ChainShape, found?: ChainShape): readonly string[] {
  if (found === undefined) return [`chain \`${name}\` is missing`];
  if (planned === undefined) return [`chain \`${name}\` is not in the plan`];
  const hook = `chain \`${name}\` is bound as ${found.hook}, not as ${planned.hook}`;
  return [...(found.hook === planned.hook ? [] : [hook]), ...compareRules(name, planned.rules, found.rules)];
}

function compareRules(
  chain: string,
  planned: readonly RuleShape[],
  found: readonly RuleShape[],
): readonly string[] {
  const lost = unmatched(planned, found);
  const extra = unmatched(found, planned);
  const differences = [
    ...lost.map(([at, { words }]) => `chain \`${chain}\`: rule ${at} is missing: ${words}`),
    ...extra.map(([at, { words }]) => `chain \`${chain}\`: rule ${at} is not in the plan: ${words}`),
  ];
  return differences.length > 0 ? differences : compareOrder(chain, planned, found);
}

function compareOrder(
  chain: string,
  planned: readonly RuleShape[],
  found: readonly RuleShape[],
): readonly string[] {
  const at = planned.findIndex((rule, i) => rule.key !== found[i]?.key);
  const words = found[at]?.words;
  return words === undefined ? [] : [`chain \`${chain}\`: rule ${at + 1} is out of order: ${words}`];
}

/** Rules of `these` that `those` lacks, with their position; a rule that stands twice must be found twice. */
function unmatched(these: readonly RuleShape[], those: readonly RuleShape[]): readonly [number, RuleShape][] {
  const left = those.map(({ key }) => key);
  return these.flatMap((rule, i): [number, RuleShape][] => {
    const at = left.indexOf(rule.key);
    if (at >= 0) left.splice(at, 1);
    return at >= 0 ? [] : [[i + 1, rule]];
  });
}

function missing(wanted: readonly string[], found: readonly string[]): readonly string[] {
  return wanted.filter((name) => !found.includes(name));
}
