// What is wrong with a policy: every problem with its place and its remedy. Finds none itself.

import { printable } from './printable.ts';

export interface Problem {
  /** JSON pointer (RFC 6901) into the document; empty for the whole. */
  readonly pointer: string;
  /** The attribute of the Nix source, where it is known. */
  readonly nix?: string;
  readonly message: string;
  readonly help: string;
}

const maxPrinted = 100;

/** A policy that cannot be enforced as written. The message lists every problem. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError';
  readonly code = 'policy_invalid';
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(describe(problems));
    this.problems = problems;
  }
}

/** RFC 6901 §3. */
export function pointerOf(keys: readonly (string | number)[]): string {
  return keys.map((key) => `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

function describe(problems: readonly Problem[]): string {
  const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
  const lines = problems.slice(0, maxPrinted).map(describeOne);
  const rest = problems.length > maxPrinted ? [`... and ${problems.length - maxPrinted} more`] : [];
  return [`the policy has ${count}`, ...lines, ...rest].join('\n');
}

function describeOne({ pointer, nix, message, help }: Problem): string {
  const place = pointer === '' ? 'document' : printable(pointer);
  return `${place}${nix === undefined ? '' : ` (${printable(nix)})`}: ${message}\n  help: ${help}`;
}
