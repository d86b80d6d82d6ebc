// Whether an address is global unicast, by the registries in special-addresses.ts. Knows no rule and no policy.

import { addressFromBytes, type Address } from './address.ts';
import { parseRange, type AddressRange } from './address-range.ts';
import {
  exceptableKinds,
  ipv4Rows,
  ipv6Rows,
  metadataRows,
  unwrappedRanges,
  type AddressKind,
} from './special-addresses.ts';

export interface AddressClass {
  /** Global unicast: may be dialled without an exception. */
  readonly isPublic: boolean;
  readonly kind: AddressKind;
  /** The RFC or the provider that says so. */
  readonly source: string;
}

/** What an address is for; IPv4-mapped and NAT64 forms are judged as the address inside. */
export function classifyAddress(address: Address): AddressClass {
  const judged = unwrapAddress(address);
  if (isIsatap(judged)) return isatap;
  const rows = (judged.family === 4 ? rowsOf4 : rowsOf6)[judged.bytes[0] ?? 0] ?? [];
  for (const row of rows) if (row.range.contains(judged)) return row.found;
  return ordinary;
}

const isatap: AddressClass = Object.freeze({ isPublic: false, kind: 'isatap', source: 'RFC 5214 §6.1' });
const ordinary: AddressClass = Object.freeze({
  isPublic: true,
  kind: 'global',
  source: 'in no special-purpose registry',
});

/** Whether `addresses` on a rule or service may except this kind. Loopback, link-local and metadata never. */
export function isExceptable(kind: AddressKind): boolean {
  return exceptableKinds.has(kind);
}

/** The IPv4 address inside an IPv4-mapped or NAT64 well-known address; any other address as it is. */
export function unwrapAddress(address: Address): Address {
  // Both forms are IPv6 and begin with a byte that few public addresses begin with: most end here.
  if (address.family === 4 || !wrappingBytes.has(address.bytes[0] ?? 0)) return address;
  const wrapped = unwrapped.some((range) => range.contains(address));
  return wrapped ? addressFromBytes(address.bytes.slice(12)) : address;
}

/** Same address on the wire: 127.0.0.1 and ::ffff:127.0.0.1 are one. */
export function isSameAddress(a: Address, b: Address): boolean {
  return unwrapAddress(a).text === unwrapAddress(b).text;
}

// The interface identifier [u]0000:5efe or 0200:5efe followed by an IPv4 address, under any prefix. RFC 5214 §6.1.
function isIsatap({ family, bytes }: Address): boolean {
  if (family === 4) return false;
  return (bytes[8] === 0 || bytes[8] === 2) && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe;
}

function mustParse(text: string): AddressRange {
  const range = parseRange(text);
  if ('problem' in range) throw new Error(`special-addresses.ts: \`${text}\`: ${range.problem}`);
  return range;
}

const unwrapped = unwrappedRanges.map(([text]) => mustParse(text));
/** First bytes of those. INVARIANT: each is IPv6 and at least eight bits long. */
const wrappingBytes: ReadonlySet<number> = new Set(unwrapped.map(({ base }) => base.bytes[0] ?? 0));

interface ClassRow {
  readonly range: AddressRange;
  readonly found: AddressClass;
}

// Longest prefix first, so that the first match is the most specific one.
const rows: readonly ClassRow[] = [...metadataRows, ...ipv4Rows, ...ipv6Rows]
  .map(([text, kind, source]) => ({
    range: mustParse(text),
    found: Object.freeze({ isPublic: kind === 'global', kind, source }),
  }))
  .toSorted((a, b) => b.range.bits - a.range.bits);

const rowsOf4 = rowsByFirstByte(4);
const rowsOf6 = rowsByFirstByte(6);

/** By the first byte of an address, the rows that could hold it. */
function rowsByFirstByte(family: 4 | 6): readonly (readonly ClassRow[])[] {
  return Array.from({ length: 256 }, (_, byte) =>
    rows.filter(({ range: { base, bits } }) => {
      const width = 2 ** Math.max(0, 8 - bits);
      const first = base.bytes[0] ?? 0;
      return base.family === family && byte >= first && byte < first + width;
    }),
  );
}
