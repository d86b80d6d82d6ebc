// Shows a plan and drop counts to a person. For eyes only: what the kernel gets is the transaction's JSON.
import { readShape } from './shape.ts';
import type { Transaction } from './transaction.ts';

/** The planned table, chain by chain, its rules numbered as `verify` numbers them. */
export function printPlan({ nftables }: Transaction): string {
  const shape = readShape(nftables.flatMap((command) => ('add' in command ? [command.add] : [])));
  const chains = [...shape.chains].map(([name, { hook, rules }]) =>
    [
      `chain ${name} (${hook})`,
      ...rules.map(({ words }, i) => `${String(i + 1).padStart(4)}  ${words}`),
    ].join('\n'),
  );
  return [`counters: ${shape.counters.join(', ')}`, ...chains].join('\n\n');
}

/** Drop counts on one line, classes that dropped nothing left out. */
export function printDrops(drops: ReadonlyMap<string, number>): string {
  const some = [...drops].filter(([, packets]) => packets > 0);
  return some.length === 0
    ? 'nothing dropped yet'
    : `dropped: ${some.map(([name, packets]) => `${name} ${packets}`).join(', ')}`;
}
