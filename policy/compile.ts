// The policy in force: a canonical text, the index of its rules, and each rule made when it is first met. Decides nothing.

import { digestOf } from './digest.ts';
import { readDocument, readServices } from './believe.ts';
import { canonicalText, deepFreeze, type PolicyDocument, type ServiceDocument } from './document.ts';
import { indexText, type TextIndex } from './index-text.ts';
import { RuleSet } from './rule-set.ts';
import {
  compileAllow,
  compileDeny,
  compileService,
  type CompiledRule,
  type CompiledService,
  type DenyRule,
} from './rule.ts';

/** A policy as plain data, which another thread or process can take over. */
export interface PolicyImage {
  /** The canonical text in UTF-8. */
  readonly text: Uint8Array;
  /** SHA-256 of the canonical text and of `loopback`, in hex. */
  readonly digest: string;
  /** Aliases of the services of a run that may dial loopback, sorted. */
  readonly loopback: readonly string[];
}

/** With the index: between threads of one process, which believe each other. */
export interface IndexedImage extends PolicyImage {
  readonly index: TextIndex;
}

/** A compiled policy. Immutable: a reload makes another one. */
export class Policy {
  /** SHA-256 of the canonical document and the services of the run, in hex. */
  readonly digest: string;
  readonly allow: RuleSet<CompiledRule>;
  readonly deny: RuleSet<DenyRule>;
  /** By alias. */
  readonly services: ReadonlyMap<string, CompiledService>;
  readonly image: IndexedImage;
  #document: PolicyDocument | undefined;

  /** Believes `image`: its text has passed every check. Costs the same for any number of rules. */
  constructor(image: IndexedImage, document?: PolicyDocument) {
    const { text, index, digest, loopback } = image;
    this.image = image;
    this.digest = digest;
    this.allow = new RuleSet(text, index.allow, compileAllow);
    this.deny = new RuleSet(text, index.deny, compileDeny);
    this.services = new Map(
      servicesIn(image).map((service) => [
        service.name,
        compileService(service, loopback.includes(service.name)),
      ]),
    );
    this.#document = document;
    Object.freeze(this);
  }

  /** The canonical text. */
  get text(): string {
    return textOf(this.image.text);
  }

  /** The canonical document. Of a large policy it is read from the text at the first call, which takes its time. */
  get document(): PolicyDocument {
    this.#document ??= deepFreeze(readDocument(this.text));
    return this.#document;
  }
}

/** Compiles a document that has passed every check; `loopback` names the services of a run that may dial loopback. */
export function compilePolicy(document: PolicyDocument, loopback: readonly string[] = []): Policy {
  // Never from a pool: a buffer of its own may move to another thread.
  const text = new TextEncoder().encode(canonicalText(document));
  const sorted = loopback.toSorted();
  const digest = digestOf(text, sorted);
  return new Policy({ text, digest, loopback: sorted, index: wholeIndex(text) }, document);
}

function wholeIndex(text: Uint8Array): TextIndex {
  const slices = indexText(text, Number.MAX_SAFE_INTEGER);
  for (;;) {
    const { done, value } = slices.next();
    if (done === true) return value;
  }
}

function servicesIn({ text, index }: IndexedImage): readonly ServiceDocument[] {
  const [start, end] = index.services;
  return start === end ? [] : readServices(textOf(text.subarray(start, end)));
}

function textOf({ buffer, byteOffset, length }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, length).toString();
}
