// What rules of other programs can do to the fence. Their accepts cannot undo our drops; a rule that moves, copies or rewrites a packet where ours
// does not look again can. Reads a listing of every table; changes nothing. Rules of iptables-nft are printed without their meaning and are not read.
import { describeRule } from './describe.ts';
import { isFields, type Fields } from './json.ts';
import type { NftObject } from './objects.ts';
import { linksOf, type FenceSpec } from './spec.ts';

/** Priority of our chains: those of others that do harm before or after it. */
const ours = -300;

interface Harm {
  readonly statement: string;
  readonly hooks: readonly string[];
  readonly when: (prio: number) => boolean;
  readonly why: string;
}

const always = (): boolean => true;
const before = (prio: number): boolean => prio <= ours;
const after = (prio: number): boolean => prio >= ours;

/** One row for each thing that another table can do around the fence. Whatever else it does, one of our chains still stands behind it. */
const harms: readonly Harm[] = [
  { statement: 'fwd', hooks: ['ingress'], when: always, why: 'sends packets out before the fence sees them' },
  {
    statement: 'dup',
    hooks: ['ingress'],
    when: always,
    why: 'copies packets out before the fence sees them',
  },
  {
    statement: 'dup',
    hooks: ['prerouting'],
    when: before,
    why: 'copies packets out before the fence sees them',
  },
  {
    statement: 'queue',
    hooks: ['prerouting', 'input', 'forward'],
    when: always,
    why: 'lets a program rewrite packets or pass them on past the fence',
  },
  {
    statement: 'tproxy',
    hooks: ['prerouting'],
    when: always,
    why: 'hands packets that the fence accepts to another socket',
  },
  {
    statement: 'mangle',
    hooks: ['input'],
    when: after,
    why: 'rewrites packets after the last look of the fence',
  },
];

/** Each rule or flowtable of another table that can carry a packet of a sandbox around the fence, in words; empty when there is none. */
export function findBypasses(ruleset: readonly NftObject[], spec: FenceSpec): readonly string[] {
  const links = [...linksOf(spec), ...(spec.networks ?? []).flatMap(({ members }) => members)];
  const others = ruleset.filter((object) => !isOurs(object, spec.table));
  const bodies = (kind: string): readonly Fields[] =>
    others.map((object) => object[kind]).filter((body) => body !== undefined);
  const rules = Map.groupBy(bodies('rule'), (rule) => placeOf(rule, rule['chain']));
  const inChains = bodies('chain').flatMap((chain) => {
    const { hook, prio } = chain;
    if (typeof hook !== 'string' || typeof prio !== 'number') return [];
    const rows = harms.filter(({ hooks, when }) => hooks.includes(hook) && when(prio));
    const place = placeOf(chain, chain['name']);
    return harmsFrom({ place, rows, rules, links, met: new Set() }).map(
      (words) => `${nameOf(chain)} chain \`${String(chain['name'])}\` ${words}`,
    );
  });
  const offloads = bodies('flowtable').filter(({ dev }) => links.some((link) => listOf(dev).includes(link)));
  return [
    ...inChains,
    ...offloads.map(
      (one) =>
        `${nameOf(one)} flowtable \`${String(one['name'])}\` carries established flows past every chain`,
    ),
  ];
}

interface Walk {
  readonly place: string;
  readonly rows: readonly Harm[];
  readonly rules: ReadonlyMap<string, readonly Fields[]>;
  readonly links: readonly string[];
  readonly met: Set<string>;
}

/** Follows jumps; a rule that names another interface is never met by a sandbox. */
function harmsFrom(walk: Walk): readonly string[] {
  const { place, rows, rules, links, met } = walk;
  if (met.has(place)) return [];
  met.add(place);
  const reached = (rules.get(place) ?? []).filter(({ expr }) => !isElsewhere(expr, links));
  return reached.flatMap((rule) => {
    const statements = listOf(rule['expr']).filter(isFields);
    const own = rows.filter(({ statement }) => statements.some((one) => statement in one));
    const below = statements.flatMap(targetOf).flatMap((name) => {
      return harmsFrom({ ...walk, place: placeOf(rule, name) });
    });
    return [...own.map(({ why }) => `${why}: ${describeRule(rule['expr'])}`), ...below];
  });
}

function targetOf(statement: Fields): readonly unknown[] {
  const jump = statement['jump'] ?? statement['goto'];
  return isFields(jump) ? [jump['target']] : [];
}

/** True when a match keeps every sandbox out: `iifname` of another link, by name or in a list of names. */
function isElsewhere(expr: unknown, links: readonly string[]): boolean {
  return listOf(expr).some((statement) => {
    const match = isFields(statement) ? statement['match'] : undefined;
    if (!isFields(match) || !isIncoming(match['left'])) return false;
    const { op, right } = match;
    const named = isFields(right) ? listOf(right['set']) : [right];
    if (named.length === 0 || !named.every(isPlainName)) return false;
    const isHit = (link: string): boolean => named.includes(link);
    return op === '==' || op === 'in' ? !links.some(isHit) : op === '!=' && links.every(isHit);
  });
}

function isIncoming(left: unknown): boolean {
  const meta = isFields(left) ? left['meta'] : undefined;
  return isFields(meta) && (meta['key'] === 'iifname' || meta['key'] === 'iif');
}

/** Not a pattern (`sp-*`), nor a reference to a named set. */
function isPlainName(name: unknown): boolean {
  return typeof name === 'string' && !/[*@]/.test(name);
}

function isOurs(object: NftObject, table: string): boolean {
  return Object.values(object).some(
    ({ family, table: of, name }) =>
      (family === 'inet' || family === 'bridge' || family === 'netdev') && (of ?? name) === table,
  );
}

function placeOf(body: Fields, chain: unknown): string {
  return JSON.stringify([body['family'], body['table'], chain]);
}

function nameOf(body: Fields): string {
  return `table ${String(body['family'])} \`${String(body['table'])}\`:`;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value === undefined ? [] : [value];
}
