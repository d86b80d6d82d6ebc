// Breaks a planned fence in every way a rule, a chain or the table can be broken, one way at a time. Pure: a plan in, broken plans out.
import type { Transaction } from '../../../nft/index.ts';
import { matchChanges } from './matches.ts';

/** A command of nftables JSON, as loosely as a vandal sees it. */
export type Command = Record<string, Record<string, Body>>;
export type Body = Record<string, unknown>;

/** One broken fence. */
export interface Mutant {
  readonly name: string;
  readonly commands: readonly Command[];
  /** In nft's own language, after them. */
  readonly after?: string;
}

/** Every mutant of `plan`. `table` is its table. */
export function mutantsOf(plan: Transaction, table: string): readonly Mutant[] {
  const commands = plan.nftables as unknown as readonly Command[];
  return [
    ...commands.flatMap((command, at) => [
      ...chainMutants(commands, command, at),
      ...ruleMutants(commands, command, at),
    ]),
    ...swaps(commands),
    ...tableMutants(commands, table),
  ];
}

function chainMutants(commands: readonly Command[], command: Command, at: number): readonly Mutant[] {
  const chain = command['add']?.['chain'];
  if (chain === undefined) return [];
  const name = String(chain['name']);
  const others = commands.filter((one) => one['add']?.['rule']?.['chain'] !== name && one !== command);
  const emptied = commands.filter((one) => one['add']?.['rule']?.['chain'] !== name);
  if (chain['hook'] === undefined) return [{ name: `${name}: emptied`, commands: emptied }];
  const withChain = (title: string, change: Body): Mutant => ({
    name: `${name}: ${title}`,
    commands: commands.with(at, { add: { chain: { ...chain, ...change } } }),
  });
  return [
    { name: `${name}: chain missing`, commands: others },
    { name: `${name}: emptied`, commands: emptied },
    withChain('priority 0', { prio: 0 }),
    withChain('priority 200', { prio: 200 }),
    withChain('priority -400', { prio: -400 }),
    withChain('policy drop', { policy: 'drop' }),
  ];
}

/** Rules that let something through, to be put in front of any rule. */
const holes: readonly (readonly [string, readonly Body[]])[] = [
  ['accept', [{ accept: null }]],
  ['return', [{ return: null }]],
  ['tcp accept', [protocolIs('tcp'), { accept: null }]],
  ['udp accept', [protocolIs('udp'), { accept: null }]],
  [
    'ipv6 accept',
    [{ match: { op: '==', left: { meta: { key: 'nfproto' } }, right: 'ipv6' } }, { accept: null }],
  ],
];

function protocolIs(name: string): Body {
  return { match: { op: '==', left: { meta: { key: 'l4proto' } }, right: name } };
}

function ruleMutants(commands: readonly Command[], command: Command, at: number): readonly Mutant[] {
  const rule = command['add']?.['rule'];
  if (rule === undefined) return [];
  const expr = rule['expr'] as readonly Body[];
  const isFrame = rule['family'] === 'netdev';
  const position = commands
    .slice(0, at + 1)
    .filter((one) => one['add']?.['rule']?.['chain'] === rule['chain']).length;
  const title = `${String(rule['chain'])} ${position}`;
  const withExpr = (what: string, changed: readonly Body[]): Mutant => ({
    name: `${title}: ${what}`,
    commands: commands.with(at, { add: { rule: { ...rule, expr: changed } } }),
  });
  // The kernel takes neither a hole for IPv6 nor another counter there.
  const inserted = holes
    .filter(([what]) => !isFrame || what !== 'ipv6 accept')
    .map(([what, hole]): Mutant => ({
      name: `${title}: ${what} in front`,
      commands: commands.toSpliced(at, 0, { add: { rule: { ...rule, expr: [...hole] } } }),
    }));
  return [
    { name: `${title}: deleted`, commands: commands.toSpliced(at, 1) },
    ...inserted,
    ...expr.flatMap((statement, i) => [
      ...statementChanges(statement)
        .filter(([what]) => !isFrame || !what.startsWith('counted as'))
        .map(([what, changed]) => withExpr(what, expr.toSpliced(i, 1, ...changed))),
      ...matchChanges(statement).map(([what, changed]) => withExpr(what, expr.toSpliced(i, 1, ...changed))),
    ]),
  ];
}

/** What may become of a statement that is no match. */
function statementChanges(statement: Body): readonly (readonly [string, readonly Body[]])[] {
  if ('drop' in statement)
    return [
      ['drop made accept', [{ accept: null }]],
      ['drop missing', []],
      ['drop made return', [{ return: null }]],
    ];
  if ('accept' in statement)
    return [
      ['accept made drop', [{ drop: null }]],
      ['accept missing', []],
    ];
  if ('counter' in statement) {
    const other = statement['counter'] === 'drop_other' ? 'drop_udp' : 'drop_other';
    return [
      ['counter missing', []],
      [`counted as ${other}`, [{ counter: other }]],
    ];
  }
  if ('notrack' in statement) return [['notrack missing', []]];
  if ('jump' in statement)
    return [
      ['jump made accept', [{ accept: null }]],
      ['jump made return', [{ return: null }]],
      ['jump made drop', [{ drop: null }]],
    ];
  return [];
}

/** Every two neighbours of one chain in each other's place. */
function swaps(commands: readonly Command[]): readonly Mutant[] {
  return commands.flatMap((command, at): readonly Mutant[] => {
    const [rule, next] = [command['add']?.['rule'], commands[at + 1]?.['add']?.['rule']];
    if (rule === undefined || next === undefined || rule['chain'] !== next['chain']) return [];
    const position = commands
      .slice(0, at + 1)
      .filter((one) => one['add']?.['rule']?.['chain'] === rule['chain']).length;
    return [
      {
        name: `${String(rule['chain'])} ${position}: swapped with the next`,
        commands: commands.toSpliced(at, 2, { add: { rule: next } }, { add: { rule } }),
      },
    ];
  });
}

function tableMutants(commands: readonly Command[], table: string): readonly Mutant[] {
  const removed = commands.slice(0, 2);
  const renamed = JSON.parse(
    JSON.stringify(commands).replaceAll(`"${table}"`, `"${table}_2"`),
  ) as readonly Command[];
  const ofIp = commands.slice(2).filter((one) => !JSON.stringify(one).includes('nfproto'));
  const ip = JSON.parse(
    JSON.stringify(ofIp).replaceAll('"family":"inet"', '"family":"ip"'),
  ) as readonly Command[];
  const counters = commands.filter((one) => one['add']?.['rule'] === undefined);
  return [
    { name: 'table: gone', commands: removed },
    { name: 'table: under another name', commands: [...removed, ...renamed] },
    { name: 'table: of family ip, IPv6 unguarded', commands: [...removed, ...ip] },
    { name: 'table: every rule flushed', commands: counters },
    // nft 1.0.6 does not read the flag in JSON.
    { name: 'table: dormant', commands, after: `add table inet ${table} { flags dormant; }` },
  ];
}
