// The rules of one list by host, each made from its JSON when it is first met: a policy of any size costs nothing until it is used.
// Decides nothing.

import { readRule } from './believe.ts';
import type { RuleDocument } from './document.ts';
import { HostIndex, type HostTable } from './host-index.ts';

const maxFirstHosts = 1000;

/** The rules of one list. */
export class RuleSet<T> {
  readonly #index: HostIndex;
  readonly #compile: (rule: RuleDocument) => T;
  /** By number; a rule is made when it is first met. */
  readonly #made: (T | undefined)[];

  #firstHosts: readonly string[] | undefined;

  constructor(text: Uint8Array, table: HostTable, compile: (rule: RuleDocument) => T) {
    this.#index = new HostIndex(text, table);
    this.#compile = compile;
    this.#made = Array.from({ length: this.#index.size });
  }

  /** The most specific rule that names `host`: exact, then the longest wildcard. */
  find(host: string): T | undefined {
    const entry = this.#index.find(host);
    if (entry === -1) return undefined;
    return this.#made[entry] ?? (this.#made[entry] = this.#make(entry));
  }

  /** Whether there is a rule `*.base`. */
  hasWildcard(base: string): boolean {
    return this.#index.hasWildcard(base);
  }

  /** The first exact hosts in the order of the canonical text, at most a thousand. */
  get firstHosts(): readonly string[] {
    return (this.#firstHosts ??= this.#readHosts(maxFirstHosts));
  }

  #readHosts(count: number): readonly string[] {
    const hosts: string[] = [];
    for (let entry = 0; entry < this.#index.size && hosts.length < count; entry += 1) {
      const host = this.#index.exactHost(entry);
      if (host !== undefined) hosts.push(host);
    }
    return hosts;
  }

  #make(entry: number): T {
    return this.#compile(readRule(this.#index.ruleText(entry)));
  }
}
