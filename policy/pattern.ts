// One way to name hosts: an exact name, or `*.x` for one or more labels left of x. Matching itself is in compile.ts.

import { getPublicSuffix } from 'tldts';
import { canonicalHost, type HostProblem } from './host.ts';
import { printable } from './printable.ts';

export interface HostPattern {
  readonly kind: 'exact' | 'wildcard';
  /** The name, or for a wildcard what stands right of `*.`. */
  readonly base: string;
}

const wildcardMark = '*.';

/** Reads a pattern that is already in its one canonical spelling; anything else is a problem with the spelling as help. */
export function parsePattern(text: string): HostPattern | HostProblem {
  if (!text.includes('*')) return parseExact(text);
  const base = text.slice(wildcardMark.length);
  if (!text.startsWith(wildcardMark) || base === '' || base.includes('*')) return misplacedStar;
  // A label stands for the star: it proves the length, and lets `*.internal` be named (with acceptRisk).
  const read = canonicalHost(`x.${base}`);
  if ('problem' in read) return read;
  const canonicalBase = read.host.slice('x.'.length);
  return canonicalBase === base ? { kind: 'wildcard', base } : spelling(`${wildcardMark}${canonicalBase}`);
}

const misplacedStar: HostProblem = {
  problem: 'a `*` stands only for whole labels at the left end',
  help: 'write `*.example.com`; there is no bare `*`, no glob inside a label and no regular expression',
};

function parseExact(text: string): HostPattern | HostProblem {
  if (text.includes('/')) {
    return {
      problem: `the byte \`/\` cannot be part of a host name`,
      help: 'a rule names a host, not a URL or a CIDR; a range goes into "addresses"',
    };
  }
  const read = canonicalHost(text);
  if ('problem' in read) return read;
  return read.host === text ? { kind: 'exact', base: text } : spelling(read.host);
}

function spelling(canonical: string): HostProblem {
  return { problem: 'the host is not in its canonical spelling', help: `write \`${printable(canonical)}\`` };
}

/** The public suffix (private section too) that a wildcard stands over, if it does: anybody may own a name under it. */
export function publicSuffixOf({ kind, base }: HostPattern): string | undefined {
  const isOver = kind === 'wildcard' && getPublicSuffix(base, { allowPrivateDomains: true }) === base;
  return isOver ? base : undefined;
}
