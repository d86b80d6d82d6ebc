// The policy as written (authored) and in its one canonical form, whose text is byte-equal for equal meaning.
// Checks nothing (semantics.ts) and reads nothing (load.ts).

import type { Verdict } from './reasons.ts';

/** Most bytes of one tunnel in each direction; a missing one is unlimited. */
export interface Limits {
  readonly upBytes?: number;
  readonly downBytes?: number;
}

export interface RuleDocument {
  readonly id: string;
  readonly host: string;
  readonly group?: string;
  readonly reason: string;
  /** Missing means the default of the protocol: 443, or 80 for http. Never empty. */
  readonly ports?: readonly number[];
  /** Missing means tls. */
  readonly protocol?: 'tls' | 'http';
  readonly ech?: 'allow';
  /** Ranges in which every answer must lie; missing means global unicast only. Never empty. */
  readonly addresses?: readonly string[];
  readonly owner?: string;
  readonly reviewBy?: string;
  readonly acceptRisk?: string;
  readonly limits?: Limits;
}

export interface ServiceDocument {
  readonly id: string;
  readonly name: string;
  /** A host name or an address literal. */
  readonly host: string;
  readonly port: number;
  readonly addresses?: readonly string[];
  readonly reason: string;
  readonly group?: string;
  readonly acceptRisk?: string;
}

export interface TestDocument {
  readonly target: string;
  readonly expect: Verdict;
}

/** The canonical document: every list is there, in one order, and what equals its default is left out. */
export interface PolicyDocument {
  readonly version: 1;
  readonly allow: readonly RuleDocument[];
  readonly deny: readonly RuleDocument[];
  readonly services: readonly ServiceDocument[];
  readonly tests: readonly TestDocument[];
}

type WithoutId<T> = Omit<T, 'id'> & { readonly id?: string };
export type AuthoredRule = WithoutId<RuleDocument>;
export type AuthoredService = WithoutId<ServiceDocument>;

/** The document as schema.json takes it: lists and ids may be missing. */
export interface AuthoredDocument {
  readonly version?: 1;
  readonly allow?: readonly AuthoredRule[];
  readonly deny?: readonly AuthoredRule[];
  readonly services?: readonly AuthoredService[];
  readonly tests?: readonly TestDocument[];
}

export const ruleIdOf = (kind: 'allow' | 'deny', rule: AuthoredRule): string =>
  rule.id ?? `${kind}/${rule.host}`;
export const serviceIdOf = (service: AuthoredService): string => service.id ?? `service/${service.name}`;

/** Ports of a rule that names none. */
export const defaultPorts = { tls: 443, http: 80 } as const;

/** The canonical form of a document that has passed every check. */
export function canonicalDocument(authored: AuthoredDocument): PolicyDocument {
  return deepFreeze({
    version: 1,
    allow: sorted(
      authored.allow,
      (rule) => canonicalRule('allow', rule),
      ({ host }) => host,
    ),
    deny: sorted(
      authored.deny,
      (rule) => canonicalRule('deny', rule),
      ({ host }) => host,
    ),
    services: sorted(authored.services, canonicalService, ({ name }) => name),
    tests: sorted(
      authored.tests,
      ({ target, expect }) => ({ target, expect }),
      ({ target }) => target,
    ),
  });
}

function sorted<A, T>(items: readonly A[] = [], canonical: (item: A) => T, key: (item: T) => string): T[] {
  return items.map(canonical).toSorted((a, b) => compareText(key(a), key(b)));
}

// By UTF-16 code unit, never by locale: the order is part of the digest.
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function canonicalRule(kind: 'allow' | 'deny', rule: AuthoredRule): RuleDocument {
  const { id: _id, ports, protocol, addresses, ...rest } = rule;
  const usual = defaultPorts[protocol ?? 'tls'];
  const isUsual = ports === undefined || (ports.length === 1 && ports[0] === usual);
  return {
    ...rest,
    id: ruleIdOf(kind, rule),
    ...(isUsual ? {} : { ports: ports.toSorted((a, b) => a - b) }),
    ...(protocol === 'http' ? { protocol } : {}),
    ...(addresses === undefined ? {} : { addresses: addresses.toSorted(compareText) }),
  };
}

function canonicalService(service: AuthoredService): ServiceDocument {
  const { addresses, ...rest } = service;
  return {
    ...rest,
    id: serviceIdOf(service),
    ...(addresses === undefined ? {} : { addresses: addresses.toSorted(compareText) }),
  };
}

/** `value` and everything in it, frozen. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const part of Object.values(value)) deepFreeze(part);
    Object.freeze(value);
  }
  return value;
}

/** The canonical JSON text: keys sorted by code unit, two spaces, a final newline. Byte-equal for equal meaning. */
export function canonicalText(document: PolicyDocument): string {
  return `${JSON.stringify(sortKeys(document), undefined, 2)}\n`;
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => compareText(a, b));
  return Object.fromEntries(entries.map(([key, part]) => [key, sortKeys(part)]));
}
