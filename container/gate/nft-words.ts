// The few words of nftables JSON (libnftables-json(5)) that the gate's own tables are made of, and the call that loads them.
// The fence is not built here: nft/ does that.
import { rm, writeFile } from 'node:fs/promises';
import { tool } from '../exec.ts';
import { protocols, type Packet } from './packet.ts';

/** One command, one statement or one key of nftables JSON. */
export type Words = Readonly<Record<string, unknown>>;

export const isEqual = (left: Words, right: unknown): Words => ({ match: { op: '==', left, right } });
export const field = (protocol: string, name: string): Words => ({ payload: { protocol, field: name } });
export const meta = (key: string): Words => ({ meta: { key } });
export const count = (name: string): Words => ({ counter: name });
export const drop: Words = { drop: null };
export const accept: Words = { accept: null };

// Bits after the start of the transport header: what follows the eight bytes of UDP's, and TCP's acknowledgment number.
export const hasMark = (mark: number): Words =>
  isEqual({ payload: { base: 'th', offset: 64, len: 32 } }, mark);

const set = (key: Words, value: unknown): Words => ({ mangle: { key, value } });

const half = (offset: number): Words => ({ payload: { base: 'th', offset, len: 16 } });

/** Statements that make a packet into another; the protocol last, as the others are found by it. */
export function changes(
  family: 4 | 6,
  { from, to, sport, protocol, ports }: Partial<Packet>,
): readonly Words[] {
  const ip = family === 4 ? 'ip' : 'ip6';
  const next = family === 4 ? 'protocol' : 'nexthdr';
  return [
    ...(sport === undefined ? [] : [set(half(0), sport)]),
    ...(ports?.[0] === undefined ? [] : [set(half(16), ports[0])]),
    ...(from === undefined ? [] : [set(field(ip, 'saddr'), from)]),
    ...(to === undefined ? [] : [set(field(ip, 'daddr'), to)]),
    ...(protocol === undefined ? [] : [set(field(ip, next), protocols[protocol])]),
  ];
}

/** A table of ours with its chains, counters and rules, as commands. */
export function newTable(family: 'inet' | 'netdev', table: string): TableWords {
  const place = { family, table };
  return {
    table: { add: { table: { family, name: table } } },
    counter: (name) => ({ add: { counter: { ...place, name } } }),
    chain: (name, hook, prio, more = {}) => ({
      add: { chain: { ...place, name, type: 'filter', hook, prio, policy: 'accept', ...more } },
    }),
    rule: (chain, ...expr) => ({ add: { rule: { ...place, chain, expr } } }),
  };
}

/** Commands that add to one table. */
interface TableWords {
  readonly table: Words;
  counter(name: string): Words;
  chain(name: string, hook: string, prio: number, more?: Words): Words;
  rule(chain: string, ...expr: readonly Words[]): Words;
}

/**
 * Loads `commands` in one transaction, with `enter` in front of nft. `file` holds them for a moment: nft 1.0.6 opens `/dev/stdin`
 * by its name, which fails for the socket that Node gives a child.
 */
export async function load(
  file: string,
  commands: readonly Words[],
  enter: readonly string[] = [],
): Promise<void> {
  await writeFile(file, JSON.stringify({ nftables: commands }), { mode: 0o600 });
  try {
    await nft(enter, ['-j', '-f', file]);
  } finally {
    await rm(file, { force: true });
  }
}

/** Packets each counter of these tables has counted, by name, all read at once. Rejects when one of them is gone. */
export async function readCounters(
  family: 'inet' | 'netdev',
  ...tables: readonly string[]
): Promise<ReadonlyMap<string, number>> {
  const words = tables.map((table) => `list counters table ${family} ${table}`);
  const text = await tool('nft', ['-j', words.join('; ')]);
  const pattern = /\{"counter": \{[^{}]*?"name": "(\w+)"[^{}]*?"packets": (\d+)/g;
  return new Map([...text.matchAll(pattern)].map(([, name = '', packets]) => [name, Number(packets)]));
}

/** Deletes a table of the gate's; no error when it is gone. */
export async function dropTable(
  family: 'inet' | 'netdev',
  table: string,
  enter: readonly string[] = [],
): Promise<void> {
  const words = ['add', 'table', family, table, ';', 'delete', 'table', family, table];
  await nft(enter, words);
}

async function nft(enter: readonly string[], args: readonly string[]): Promise<void> {
  const [program, ...rest] = [...enter, 'nft'];
  await tool(program ?? 'nft', [...rest, ...args]);
}
