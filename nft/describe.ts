// A rule in words close to nft's own, for people. Never fed back to nft: the kernel gets JSON only.
import { isFields, type Fields } from './json.ts';

/** One line for the `expr` of a rule, foreign ones included: what has no words here is shown as JSON, cut at 200 characters. */
export function describeRule(expr: unknown): string {
  return Array.isArray(expr) ? expr.map(describeStatement).join(' ') : short(expr);
}

/** Properties of a chain or table, sorted: `hook input, policy accept, prio -300, type filter`; `no hook` when there are none. */
export function describeFields(fields: Fields): string {
  const words = Object.entries(fields).map(([key, value]) => `${key} ${plain(value)}`);
  return words.length === 0 ? 'no hook' : words.toSorted().join(', ');
}

function describeStatement(statement: unknown): string {
  if (!isFields(statement)) return short(statement);
  const [[kind, body] = ['', null]] = Object.entries(statement);
  if (kind === 'match' && isFields(body)) return describeMatch(body);
  if (kind === 'jump' && isFields(body)) return `jump ${plain(body['target'])}`;
  if (body === null) return kind;
  return typeof body === 'string' ? `${kind} ${body}` : short(statement);
}

function describeMatch({ op, left, right }: Fields): string {
  const compare = op === '==' ? '' : `${plain(op)} `;
  return `${describeKey(left)} ${compare}${describeValue(right)}`;
}

function describeKey(key: unknown): string {
  if (!isFields(key)) return short(key);
  const { meta, payload, fib } = key;
  if (isFields(meta)) return plain(meta['key']);
  if (isFields(payload) && 'field' in payload)
    return `${plain(payload['protocol'])} ${plain(payload['field'])}`;
  if (isFields(fib)) return `fib ${list(fib['flags'])} ${plain(fib['result'])}`;
  const masked: unknown = key['&'];
  if (!Array.isArray(masked)) return short(key);
  const [inner, flags]: readonly unknown[] = masked.map((one: unknown) => one);
  return `${describeKey(inner)} & (${list(flags)})`;
}

export function describeValue(value: unknown): string {
  if (!isFields(value))
    return typeof value === 'string' || typeof value === 'number' ? String(value) : short(value);
  const { prefix, set } = value;
  if (isFields(prefix)) return `${plain(prefix['addr'])}/${plain(prefix['len'])}`;
  return Array.isArray(set) ? `{ ${set.map(describeValue).join(', ')} }` : short(value);
}

function list(value: unknown): string {
  return Array.isArray(value) ? value.join('|') : plain(value);
}

function plain(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : short(value);
}

function short(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}
