// The hash under which a host stands in an index, taken from its right end so that every parent name is met on the way. No secret: who
// could make names collide writes the policy itself.

/** Hash of the empty name. */
export const emptyHash = 0x81_1c_9d_c5 | 0;

/** The hash of a name once `code` stands left of it (FNV-1a, 32 bits). */
export function hashLeft(hash: number, code: number): number {
  return Math.imul(hash ^ code, 0x01_00_01_93);
}

/** What is stored: spread over all bits, and another one for `*.x` than for x. Unsigned. */
export function stored(hash: number, isWildcard: boolean): number {
  let h = isWildcard ? ~hash : hash;
  h = Math.imul(h ^ (h >>> 16), 0x85_eb_ca_6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2_b2_ae_35);
  return (h ^ (h >>> 16)) >>> 0;
}
