// From a canonical text to the index of its rules, by its lines alone. Nothing is parsed: the text has passed every check, or its digest
// is one that did. What is not laid out as document.ts lays it out is not found, and so not allowed.

import { emptyHash, hashLeft, stored } from './host-hash.ts';
import { depthBit, entryWords, slotWords, wildcardFlag, type HostTable } from './host-index.ts';

/** Where everything stands in one canonical text. Plain data. */
export interface TextIndex {
  readonly allow: HostTable;
  readonly deny: HostTable;
  /** First byte of the list of services, and the byte after its end. */
  readonly services: readonly [start: number, end: number];
}

const newline = 0x0a;
const quote = 0x22;
const star = 0x2a;
const dot = 0x2e;
const encoder = new TextEncoder();

/** The lines that matter, as canonicalText() writes them. */
const entryStart = encoder.encode('    {');
const entryEnd = encoder.encode('    }');
const hostKey = encoder.encode('      "host": "');
const listEnd = encoder.encode('  ]');
const lists = (['allow', 'deny', 'services'] as const).map((name) => ({
  name,
  key: encoder.encode(`  "${name}": [`),
}));

/** Yields after every `sliceRules` rules or so, and returns the index. */
export function* indexText(text: Uint8Array, sliceRules: number): Generator<void, TextIndex> {
  const found: Found = { allow: [], deny: [], services: [0, 0] };
  yield* readLines(text, found, sliceRules);
  return {
    allow: yield* tableOf(text, found.allow, sliceRules),
    deny: yield* tableOf(text, found.deny, sliceRules),
    services: found.services,
  };
}

interface Found {
  readonly allow: number[];
  readonly deny: number[];
  services: [number, number];
}

function* readLines(text: Uint8Array, found: Found, sliceRules: number): Generator<void, void> {
  let list: (typeof lists)[number]['name'] | undefined;
  let left = sliceRules;
  for (let at = 0; at < text.length; at = lineEnd(text, at) + 1) {
    if (startsWith(text, at, entryStart) && (list === 'allow' || list === 'deny')) {
      at = readEntry(text, at, found[list]);
      left -= 1;
    } else if (startsWith(text, at, listEnd)) {
      if (list === 'services') found.services[1] = at + listEnd.length;
      list = undefined;
    } else {
      const opened = lists.find(({ key }) => startsWith(text, at, key));
      if (opened === undefined) continue;
      // An empty list ends on its own line.
      const isEmpty = text[at + opened.key.length] !== newline;
      list = isEmpty ? undefined : opened.name;
      if (opened.name === 'services')
        found.services = [at + opened.key.length - 1, at + opened.key.length + 1];
    }
    if (left > 0) continue;
    left = sliceRules;
    yield;
  }
}

/** Notes one rule that begins at the line `at`; the last line of it. */
function readEntry(text: Uint8Array, at: number, entries: number[]): number {
  let host = at;
  let line = at;
  while (line < text.length && !startsWith(text, line, entryEnd)) {
    if (startsWith(text, line, hostKey)) host = line + hostKey.length;
    line = lineEnd(text, line) + 1;
  }
  const isWildcard = text[host] === star && text[host + 1] === dot;
  const start = isWildcard ? host + 2 : host;
  const length = Math.max(0, text.indexOf(quote, start) - start);
  entries.push(at, line + entryEnd.length, start, isWildcard ? length + wildcardFlag : length);
  return line;
}

function* tableOf(
  text: Uint8Array,
  found: readonly number[],
  sliceRules: number,
): Generator<void, HostTable> {
  const entries = Uint32Array.from(found);
  const count = entries.length / entryWords;
  const slots = new Uint32Array(slotWords * 2 ** Math.ceil(Math.log2(Math.max(2, count * 2))));
  let depths = 0;
  for (let entry = 0; entry < count; entry += 1) {
    depths |= takeSlot(text, entries, entry, slots);
    if (entry % sliceRules === sliceRules - 1) yield;
  }
  return { entries, slots, depths };
}

/** Puts an entry into its slot; the bit of its depth if it is a wildcard. */
function takeSlot(text: Uint8Array, entries: Uint32Array, entry: number, slots: Uint32Array): number {
  const start = entries[entry * entryWords + 2] ?? 0;
  const flagged = entries[entry * entryWords + 3] ?? 0;
  const isWildcard = flagged >= wildcardFlag;
  let hash = emptyHash;
  let dots = 0;
  for (let i = start + (isWildcard ? flagged - wildcardFlag : flagged) - 1; i >= start; i -= 1) {
    const code = text[i] ?? 0;
    if (code === dot) dots += 1;
    hash = hashLeft(hash, code);
  }
  const key = stored(hash, isWildcard);
  const mask = slots.length / slotWords - 1;
  let slot = key & mask;
  while (slots[slot * slotWords + 1] !== 0) slot = (slot + 1) & mask;
  slots.set([key, entry + 1], slot * slotWords);
  return isWildcard ? depthBit(dots) : 0;
}

function lineEnd(text: Uint8Array, at: number): number {
  const end = text.indexOf(newline, at);
  return end === -1 ? text.length : end;
}

function startsWith(text: Uint8Array, at: number, words: Uint8Array): boolean {
  for (let i = 0; i < words.length; i += 1) if (text[at + i] !== words[i]) return false;
  return true;
}
