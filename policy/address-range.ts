// Strict CIDR ranges. Knows nothing of which ranges are special.

import { parseAddress, type Address } from './address.ts';

/** A CIDR range. */
export interface AddressRange {
  /** Canonical, with its prefix length. */
  readonly text: string;
  readonly base: Address;
  readonly bits: number;
  /** False for an address of the other family; a mapped address is not unwrapped here. */
  contains(address: Address): boolean;
}

/** A CIDR range, or one address without `/`. Host bits, `/0` and leading zeros are refused with a reason. */
export function parseRange(text: string): AddressRange | { readonly problem: string } {
  const [host = '', length, ...rest] = text.split('/');
  const base = parseAddress(host);
  if (base === undefined || rest.length > 0)
    return { problem: 'this is neither an IP address nor a CIDR range' };
  const widest = base.bytes.length * 8;
  const bits = length === undefined ? widest : parseBits(length);
  if (bits === undefined || bits > widest)
    return { problem: `the prefix length is not a number from 1 to ${widest}` };
  if (bits === 0) return { problem: 'a range of all addresses is no pin' };
  if (hasHostBits(base.bytes, bits)) return { problem: `bits are set right of the first ${bits}` };
  return rangeOf(base, bits);
}

/** The range of the first `bits` bits of `base`, which has no others set. */
export function rangeOf(base: Address, bits: number = base.bytes.length * 8): AddressRange {
  const contains = ({ family, bytes }: Address): boolean =>
    family === base.family && sharesBits(bytes, base.bytes, bits);
  return { text: `${base.text}/${bits}`, base, bits, contains };
}

function parseBits(text: string): number | undefined {
  const value = Number(text);
  return String(value) === text && Number.isInteger(value) && value >= 0 ? value : undefined;
}

function hasHostBits(bytes: Uint8Array, bits: number): boolean {
  return bytes.some((byte, i) => (byte & ~maskOf(i, bits) & 0xff) !== 0);
}

function sharesBits(a: Uint8Array, b: Uint8Array, bits: number): boolean {
  for (let i = 0; i * 8 < bits; i += 1) {
    if ((((a[i] ?? 0) ^ (b[i] ?? 0)) & maskOf(i, bits)) !== 0) return false;
  }
  return true;
}

function maskOf(index: number, bits: number): number {
  const here = Math.min(8, Math.max(0, bits - index * 8));
  return (0xff << (8 - here)) & 0xff;
}
