// The kernel's rules in memory, for tests of whatever stands on the fence. Keeps the kernel's manners: all or nothing, and errors for what is not there.
import { FenceError } from './errors.ts';
import { isFields } from './json.ts';
import type { Addable, Family, NftObject } from './objects.ts';
import { checkTable } from './spec.ts';
import type { Command, Transaction, WatchedNft } from './transaction.ts';

type Tables = Map<string, readonly NftObject[]>;

export interface FakeNft extends WatchedNft {
  /** Content of each table by its name (with `bridge ` or `netdev ` before it in those families), as `list` gives it. A test may change it: that is another program at our table. */
  readonly tables: Tables;
  /** What was applied, in order; a refused transaction is not in it. */
  readonly applied: readonly Transaction[];
  /** Tells every monitor that `lines` were printed. */
  say(lines: string): void;
}

/** An empty ruleset. Rejects as nft does: a missing table, chain, counter or jump target refuses the whole transaction. */
export function createFakeNft(): FakeNft {
  const tables: Tables = new Map();
  const applied: Transaction[] = [];
  const ears = new Set<(lines: string) => void>();
  const after = (tx: Transaction): Tables => tx.nftables.reduce(step, new Map(tables));
  return {
    tables,
    applied,
    check: async (tx) => void after(tx),
    apply: async (tx) => {
      const next = after(tx);
      tables.clear();
      for (const [name, content] of next) tables.set(name, content);
      applied.push(tx);
    },
    list: async (table, family = 'inet') => tables.get(keyOf(family, checkTable(table))) ?? [],
    ruleset: async () => [...tables.values()].flat(),
    save: async (table) => JSON.stringify(tables.get(checkTable(table)) ?? []),
    monitor: (onNews) => {
      ears.add(onNews);
      return { stop: () => void ears.delete(onNews) };
    },
    say: (lines) => {
      for (const tell of ears) tell(lines);
    },
  };
}

function step(tables: Tables, command: Command): Tables {
  if ('add' in command) return add(tables, command.add);
  const { family, name } = command.delete.table;
  if (!tables.delete(keyOf(family, name))) throw refused(`no table \`${name}\``);
  return tables;
}

function add(tables: Tables, object: Addable): Tables {
  if ('table' in object) {
    const key = keyOf(object.table.family, object.table.name);
    return tables.has(key) ? tables : tables.set(key, [{ table: { ...object.table, handle: 1 } }]);
  }
  const table = tableOf(object);
  const content = tables.get(table);
  if (content === undefined) throw refused(`no table \`${table}\``);
  if ('rule' in object) checkReferences(content, object);
  return tables.set(table, sortByKind([...content, asListed(object, content.length + 1)]));
}

type Inside = Exclude<Addable, { readonly table: unknown }>;

function tableOf(object: Inside): string {
  const place = 'rule' in object ? object.rule : 'chain' in object ? object.chain : object.counter;
  return keyOf(place.family, place.table);
}

/** A table of another family is another table. */
function keyOf(family: Family, name: string): string {
  return family === 'inet' ? name : `${family} ${name}`;
}

function checkReferences(
  content: readonly NftObject[],
  { rule }: Extract<Addable, { readonly rule: unknown }>,
): void {
  if (!has(content, 'chain', rule.chain)) throw refused(`no chain \`${rule.chain}\``);
  for (const statement of rule.expr) {
    if ('counter' in statement && !has(content, 'counter', statement.counter))
      throw refused(`no counter \`${statement.counter}\``);
    if ('jump' in statement && !has(content, 'chain', statement.jump.target))
      throw refused(`no chain \`${statement.jump.target}\``);
  }
}

function has(content: readonly NftObject[], kind: string, name: string): boolean {
  return content.some((object) => object[kind]?.['name'] === name);
}

function asListed(object: Inside, handle: number): NftObject {
  const zero = 'counter' in object ? { packets: 0, bytes: 0 } : {};
  return Object.fromEntries(
    Object.entries(object).map(([kind, body]) => [
      kind,
      { ...(isFields(body) ? body : {}), handle, ...zero },
    ]),
  );
}

/** nft lists the table, then its counters, chains and rules. */
function sortByKind(content: readonly NftObject[]): readonly NftObject[] {
  const kinds = ['table', 'counter', 'chain', 'rule'];
  const rank = (object: NftObject): number => kinds.findIndex((kind) => kind in object);
  return content.toSorted((a, b) => rank(a) - rank(b));
}

function refused(why: string): FenceError {
  return new FenceError(
    'nft_failed',
    `nft refused: no such file or directory: ${why}`,
    'no rule was changed',
  );
}
