// What may become of one match of a rule: gone, turned round, with fewer or more values, narrower or wider. Pure.
import type { Body } from './mutate.ts';

type Change = readonly [what: string, changed: readonly Body[]];

/** Every change of `statement`; none when it is no match. */
export function matchChanges(statement: Body): readonly Change[] {
  const match = statement['match'] as Body | undefined;
  if (match === undefined) return [];
  const { op, left, right } = match;
  const words = nameOf(left);
  const change = (what: string, changed: Body): Change => [
    `${words} ${what}`,
    [{ match: { ...match, ...changed } }],
  ];
  return [
    [`${words} missing`, []],
    change('turned round', { op: op === '==' ? '!=' : '==' }),
    ...setChanges(right).map(([what, value]) => change(what, { right: value })),
    ...valueChanges(right).map(([what, value]) => change(what, { right: value })),
  ];
}

function nameOf(left: unknown): string {
  return [...JSON.stringify(left).matchAll(/"(?:key|field|flags)":\[?"([\w ]+)"/g)]
    .map(([, name]) => name)
    .join(' ');
}

/** Each value taken out, and for ports a value put in. */
function setChanges(right: unknown): readonly (readonly [string, unknown])[] {
  const values = (right as Body | null)?.['set'] as readonly unknown[] | undefined;
  if (values === undefined) return [];
  const without = values.map((value, i): readonly [string, unknown] => [
    `without ${JSON.stringify(value)}`,
    { set: values.toSpliced(i, 1) },
  ]);
  const [port] = values;
  const more = typeof port === 'number' ? [port + 1, 22] : [];
  return [
    ...without,
    ...more.map((value): readonly [string, unknown] => [`with ${value} too`, { set: [...values, value] }]),
    ...values.flatMap((value, i) =>
      valueChanges(value).map(([what, changed]): readonly [string, unknown] => [
        what,
        { set: values.with(i, changed) },
      ]),
    ),
  ];
}

/** A network half and twice as large; an address or a name that is another. */
function valueChanges(value: unknown): readonly (readonly [string, unknown])[] {
  if (typeof value === 'string' && /^\d+\.\d+\.\d+\.\d+$/.test(value))
    return [[`${value} made 203.0.113.99`, '203.0.113.99']];
  if (typeof value === 'string' && value.startsWith('sp-')) return [['of another link', 'sp-other']];
  const prefix = (value as Body | null)?.['prefix'] as { addr: string; len: number } | undefined;
  if (prefix === undefined) return [];
  return [
    ['half as wide', { prefix: { ...prefix, len: prefix.len + 1 } }],
    ['twice as wide', { prefix: { addr: masked(prefix.addr, prefix.len - 1), len: prefix.len - 1 } }],
  ];
}

function masked(addr: string, len: number): string {
  const number = addr.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const kept = Math.floor(number / 2 ** (32 - len)) * 2 ** (32 - len);
  return [24, 16, 8, 0].map((shift) => Math.floor(kept / 2 ** shift) % 256).join('.');
}
