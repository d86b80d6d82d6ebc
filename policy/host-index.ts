// Finds the rule for a host among any number of rules, in one walk over the host and without making anything. The index is numbers beside
// the canonical text: what a thread has built, another takes over without a copy. Builds none (index-text.ts) and decides nothing.

import { emptyHash, hashLeft, stored } from './host-hash.ts';

/** Numbers of one entry in `entries`: where its JSON begins and ends in the text, where its host begins, and how long that is. */
export const entryWords = 4;
/** In the length of a host: the rule is `*.host`. */
export const wildcardFlag = 0x80_00_00_00;
/** A hash and the number of an entry plus one; 0 is a free slot. */
export const slotWords = 2;

/** Where the rules of one list stand in a canonical text. Plain data: it may cross to another thread. */
export interface HostTable {
  readonly entries: Uint32Array;
  /** Open addressing, a power of two of slots, at most half of them taken. */
  readonly slots: Uint32Array;
  /** Bit n: some wildcard has n dots in it; bit 31: or more. */
  readonly depths: number;
}

const dotCode = 0x2e;

/** Dots beyond 31 share a bit. */
export function depthBit(dots: number): number {
  return 1 << Math.min(dots, 31);
}

/** The rules of one list by host. */
export class HostIndex {
  readonly #text: Uint8Array;
  readonly #entries: Uint32Array;
  readonly #slots: Uint32Array;
  readonly #depths: number;
  readonly #mask: number;

  constructor(text: Uint8Array, { entries, slots, depths }: HostTable) {
    this.#text = text;
    this.#entries = entries;
    this.#slots = slots;
    this.#depths = depths;
    this.#mask = slots.length / slotWords - 1;
  }

  /** How many rules there are. */
  get size(): number {
    return this.#entries.length / entryWords;
  }

  /** The number of the most specific rule that names `host`: exact, then the longest wildcard. -1 if none does. */
  find(host: string): number {
    if (this.#entries.length === 0) return -1;
    let longest = -1;
    let hash = emptyHash;
    let dots = 0;
    for (let i = host.length - 1; i >= 0; i -= 1) {
      const code = host.charCodeAt(i);
      if (code === dotCode) {
        // From the right: a longer wildcard is found later and takes the place of a shorter one.
        if ((this.#depths & depthBit(dots)) !== 0) {
          const found = this.#look(stored(hash, true), host, i + 1, true);
          if (found !== -1) longest = found;
        }
        dots += 1;
      }
      hash = hashLeft(hash, code);
    }
    const exact = this.#look(stored(hash, false), host, 0, false);
    return exact === -1 ? longest : exact;
  }

  /** Whether there is a rule `*.base`. */
  hasWildcard(base: string): boolean {
    if (this.#entries.length === 0) return false;
    let hash = emptyHash;
    for (let i = base.length - 1; i >= 0; i -= 1) hash = hashLeft(hash, base.charCodeAt(i));
    return this.#look(stored(hash, true), base, 0, true) !== -1;
  }

  /** The host of an exact rule; undefined for a wildcard. */
  exactHost(entry: number): string | undefined {
    const [start, length] = this.#hostOf(entry);
    return length >= wildcardFlag ? undefined : this.#slice(start, start + length);
  }

  /** The JSON text of a rule. */
  ruleText(entry: number): string {
    const at = entry * entryWords;
    return this.#slice(this.#entries[at] ?? 0, this.#entries[at + 1] ?? 0);
  }

  #slice(start: number, end: number): string {
    const { buffer, byteOffset } = this.#text;
    return Buffer.from(buffer, byteOffset + start, end - start).toString();
  }

  #hostOf(entry: number): readonly [start: number, length: number] {
    const at = entry * entryWords;
    return [this.#entries[at + 2] ?? 0, this.#entries[at + 3] ?? 0];
  }

  #look(hash: number, host: string, from: number, isWildcard: boolean): number {
    const slots = this.#slots;
    for (let slot = hash & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const taken = slots[slot * slotWords + 1] ?? 0;
      if (taken === 0) return -1;
      if (slots[slot * slotWords] === hash && this.#isHost(taken - 1, host, from, isWildcard))
        return taken - 1;
    }
  }

  /** Byte for byte: a hash alone proves nothing. */
  #isHost(entry: number, host: string, from: number, isWildcard: boolean): boolean {
    const length = host.length - from;
    const at = entry * entryWords;
    if (this.#entries[at + 3] !== (isWildcard ? length + wildcardFlag : length)) return false;
    const start = this.#entries[at + 2] ?? 0;
    for (let i = 0; i < length; i += 1) {
      if (this.#text[start + i] !== host.charCodeAt(from + i)) return false;
    }
    return true;
  }
}
