// Reading JSON that nft printed: nothing about it is believed before it is looked at. Also the one spelling in which two rules are compared.

export type Fields = Readonly<Record<string, unknown>>;

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The same text for values that mean the same to nft: keys sorted, elements of a set sorted, and `{"|": [...]}` (how we and newer
 * versions may spell flags) as the plain list that 1.0.6 prints.
 */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (!isFields(value)) return JSON.stringify(value) ?? 'null';
  const flags = value['|'];
  if (Array.isArray(flags)) return canonical(flags);
  const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, one]) => `${JSON.stringify(key)}:${member(key, one)}`).join(',')}}`;
}

function member(key: string, value: unknown): string {
  return key === 'set' && Array.isArray(value)
    ? `[${value.map(canonical).toSorted().join(',')}]`
    : canonical(value);
}
