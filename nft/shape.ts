// The meaning of one table, without what the kernel adds (handles, counter values): the same for a plan and for what was read back.
import { describeFields, describeRule, describeValue } from './describe.ts';
import { canonical, isFields, type Fields } from './json.ts';
import { nameProtocols } from './protocols.ts';

export interface RuleShape {
  /** Equal for equal rules. */
  readonly key: string;
  readonly words: string;
}

export interface ChainShape {
  /** Type, hook, priority, policy and whatever else the chain carries, in words; `no hook` for one that is only jumped to. */
  readonly hook: string;
  /** In the order in which packets meet them. */
  readonly rules: readonly RuleShape[];
}

export interface TableShape {
  /** As `inet sallyport`. */
  readonly tables: readonly string[];
  /** Names of what the table itself carries: the flag `dormant` switches a table off, and nft 1.0.6 prints it as garbage. */
  readonly extras: readonly string[];
  readonly counters: readonly string[];
  readonly chains: ReadonlyMap<string, ChainShape>;
  /** Objects of kinds that a fence has not: sets, maps, flowtables. */
  readonly foreign: readonly string[];
}

interface Draft {
  tables: string[];
  extras: readonly string[];
  counters: string[];
  hooks: Map<string, string>;
  rules: Map<string, RuleShape[]>;
  foreign: string[];
}

/** Reads table objects in nft's JSON: the bodies of `add` commands, or a listing. */
export function readShape(objects: Iterable<object>): TableShape {
  const draft: Draft = {
    tables: [],
    extras: [],
    counters: [],
    hooks: new Map(),
    rules: new Map(),
    foreign: [],
  };
  for (const object of objects) {
    for (const [kind, body] of Object.entries(object))
      (readers.get(kind) ?? readForeign(kind))(draft, isFields(body) ? body : {});
  }
  const names = new Set([...draft.hooks.keys(), ...draft.rules.keys()]);
  const chains = [...names].map((name): [string, ChainShape] => [
    name,
    { hook: draft.hooks.get(name) ?? 'nothing that was listed', rules: draft.rules.get(name) ?? [] },
  ]);
  return { ...draft, chains: new Map(chains) };
}

type Reader = (draft: Draft, body: Fields) => void;

const readers: ReadonlyMap<string, Reader> = new Map<string, Reader>([
  [
    'table',
    (draft, body) => {
      draft.tables.push(`${String(body['family'])} ${String(body['name'])}`);
      draft.extras = [...draft.extras, ...Object.keys(without(body, ['family', 'name', 'handle']))];
    },
  ],
  ['counter', (draft, body) => void draft.counters.push(nameIn(body, body['name']))],
  [
    'chain',
    (draft, body) =>
      void draft.hooks.set(
        nameIn(body, body['name']),
        describeFields(without(body, ['family', 'table', 'name', 'handle'])),
      ),
  ],
  [
    'rule',
    (draft, body) => {
      const chain = nameIn(body, body['chain']);
      const expr = nameProtocols(body['expr']);
      const rule = { key: canonical(expr), words: describeRule(expr) };
      draft.rules.set(chain, [...(draft.rules.get(chain) ?? []), rule]);
    },
  ],
]);

/** A chain of our `bridge` table is another than the one of that name in `inet`. */
function nameIn({ family }: Fields, name: unknown): string {
  return family === 'bridge' || family === 'netdev' ? `${family} ${String(name)}` : String(name);
}

function readForeign(kind: string): Reader {
  return (draft, body) => void draft.foreign.push(`${kind} \`${describeValue(body['name'])}\``);
}

function without(body: Fields, keys: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(body).filter(([key]) => !keys.includes(key)));
}
