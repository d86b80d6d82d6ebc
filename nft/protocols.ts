// One spelling for transport protocols: nft prints the name that /etc/protocols gives, and the number on a machine without that file.
import { isFields } from './json.ts';

/** IANA protocol numbers of what a fence names. */
const names: ReadonlyMap<unknown, string> = new Map([
  [1, 'icmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [136, 'udplite'],
]);

/** `expr` of a rule with the protocols in its matches by name; everything else as it is. */
export function nameProtocols(expr: unknown): unknown {
  return Array.isArray(expr) ? expr.map(nameInStatement) : expr;
}

function nameInStatement(statement: unknown): unknown {
  if (!isFields(statement) || !isFields(statement['match'])) return statement;
  const { match } = statement;
  const { left, right } = match;
  const isProtocol = isFields(left) && isFields(left['meta']) && left['meta']['key'] === 'l4proto';
  return isProtocol ? { match: { ...match, right: nameIn(right) } } : statement;
}

function nameIn(value: unknown): unknown {
  if (isFields(value) && Array.isArray(value['set'])) return { ...value, set: value['set'].map(nameIn) };
  return names.get(value) ?? value;
}
