// One IP address: strict reading and canonical text. Never judges (address-class.ts) and never resolves.

import { isIPv4, isIPv6 } from 'node:net';
/** One address. `text` is canonical (RFC 5952), `bytes` are 4 or 16 in network order. */
export interface Address {
  readonly family: 4 | 6;
  readonly text: string;
  readonly bytes: Uint8Array;
}

/** A strict dotted quad or RFC 4291 text without zone id; anything else is undefined. */
export function parseAddress(text: string): Address | undefined {
  if (isIPv4(text)) return addressFromBytes(Uint8Array.from(text.split('.'), Number));
  if (text.includes('%') || !isIPv6(text)) return undefined;
  return addressFromBytes(parseIPv6Bytes(text));
}

// `text` is known to be valid, so each side of `::` is only split and the gap filled.
function parseIPv6Bytes(text: string): Uint8Array {
  const [left = '', right] = text.split('::');
  const before = groupBytes(left);
  const after = groupBytes(right ?? '');
  const bytes = new Uint8Array(16);
  bytes.set(before, 0);
  bytes.set(after, 16 - after.length);
  return bytes;
}

function groupBytes(side: string): number[] {
  if (side === '') return [];
  return side.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

/** The address of 4 or 16 bytes in network order. Throws RangeError on any other length. */
export function addressFromBytes(bytes: Uint8Array): Address {
  if (bytes.length === 4) return { family: 4, text: bytes.join('.'), bytes };
  if (bytes.length === 16) return { family: 6, text: formatIPv6(bytes), bytes };
  throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
}

// RFC 5952: lower case, no leading zeros, the longest (first) run of two or more zero groups as `::`, mapped as a quad.
function formatIPv6(bytes: Uint8Array): string {
  if (isMapped(bytes)) return `::ffff:${bytes.slice(12).join('.')}`;
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0));
  const gap = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (gap.length < 2) return hex.join(':');
  return `${hex.slice(0, gap.start).join(':')}::${hex.slice(gap.start + gap.length).join(':')}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (const [i, group] of groups.entries()) {
    length = group === 0 ? length + 1 : 0;
    if (length > best.length) best = { start: i - length + 1, length };
  }
  return best;
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((byte) => byte === 0);
}
