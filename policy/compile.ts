// Turns a checked document into Maps, so that a look-up costs the same for ten rules and for ten thousand. Decides nothing.

import { parseRange, rangeOf, type AddressRange } from './address-range.ts';
import { parseAddress } from './address.ts';
import {
  canonicalText,
  defaultPorts,
  digestOf,
  type Limits,
  type PolicyDocument,
  type RuleDocument,
  type ServiceDocument,
} from './document.ts';
import { parsePattern } from './pattern.ts';

/** A service of the policy, or one that a run has added. Only the latter may be loopback. */
export interface RunService extends ServiceDocument {
  /** The run itself named a loopback address of the proxy host; a policy document cannot. */
  readonly loopback?: boolean;
}

/** One allow rule or service in the form the gates read. */
export interface CompiledRule {
  readonly id: string;
  readonly host: string;
  readonly group: string | null;
  readonly reason: string;
  readonly ports: ReadonlySet<number>;
  readonly protocol: 'tls' | 'http' | 'tcp';
  readonly ech: 'deny' | 'allow';
  /** Every answer must lie in one of these; null means global unicast only. */
  readonly ranges: readonly AddressRange[] | null;
  readonly loopback: boolean;
  readonly limits: { readonly upBytes: number | null; readonly downBytes: number | null };
}

export type DenyRule = Pick<CompiledRule, 'id' | 'host' | 'group' | 'reason'>;

/** Rules by what they name. */
export interface HostIndex<T> {
  readonly exact: ReadonlyMap<string, T>;
  /** By what stands right of `*.`. */
  readonly wildcard: ReadonlyMap<string, T>;
}

/** A compiled policy. Immutable: a reload makes another one. */
export interface Policy {
  /** SHA-256 of the canonical document and the services of the run, in hex. */
  readonly digest: string;
  readonly document: PolicyDocument;
  readonly allow: HostIndex<CompiledRule>;
  readonly deny: HostIndex<DenyRule>;
  /** By alias. */
  readonly services: ReadonlyMap<string, CompiledRule>;
}

/** Compiles a document that has passed every check; `loopback` names the services of a run that may dial loopback. */
export function compilePolicy(document: PolicyDocument, loopback: ReadonlySet<string> = new Set()): Policy {
  const text = canonicalText(document);
  const marks = loopback.size === 0 ? '' : JSON.stringify([...loopback].toSorted());
  return Object.freeze({
    digest: digestOf(text + marks),
    document,
    allow: indexHosts(document.allow, compileRule),
    deny: indexHosts(document.deny, compileDeny),
    services: new Map(document.services.map((s) => [s.name, compileService(s, loopback.has(s.name))])),
  });
}

function indexHosts<T>(rules: readonly RuleDocument[], compile: (rule: RuleDocument) => T): HostIndex<T> {
  const exact = new Map<string, T>();
  const wildcard = new Map<string, T>();
  for (const rule of rules) {
    const pattern = parsePattern(rule.host);
    if ('problem' in pattern)
      throw new Error(`rule \`${rule.id}\` reached the compiler unchecked: ${pattern.problem}`);
    const index = pattern.kind === 'exact' ? exact : wildcard;
    index.set(pattern.base, compile(rule));
  }
  return Object.freeze({ exact, wildcard });
}

/**
 * The most specific rule that names `host`: exact, then the longest wildcard. One Map look-up per label of the host,
 * whatever the number of rules.
 */
export function findRule<T>(index: HostIndex<T>, host: string): T | undefined {
  const exact = index.exact.get(host);
  if (exact !== undefined || index.wildcard.size === 0) return exact;
  for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
    const rule = index.wildcard.get(host.slice(dot + 1));
    if (rule !== undefined) return rule;
  }
  return undefined;
}

function compileRule(rule: RuleDocument): CompiledRule {
  const protocol = rule.protocol ?? 'tls';
  return Object.freeze({
    ...compileDeny(rule),
    ports: new Set(rule.ports ?? [defaultPorts[protocol]]),
    protocol,
    ech: rule.ech ?? 'deny',
    ranges: rule.addresses === undefined ? null : rule.addresses.map(mustParseRange),
    loopback: false,
    limits: compileLimits(rule.limits),
  });
}

function compileDeny({ id, host, group, reason }: RuleDocument): DenyRule {
  return Object.freeze({ id, host, group: group ?? null, reason });
}

function compileService(service: ServiceDocument, loopback: boolean): CompiledRule {
  const literal = parseAddress(service.host);
  const ranges = literal === undefined ? service.addresses?.map(mustParseRange) : [rangeOf(literal)];
  return Object.freeze({
    ...compileDeny(service),
    ports: new Set([service.port]),
    protocol: 'tcp',
    ech: 'deny',
    ranges: ranges ?? null,
    loopback,
    limits: compileLimits(undefined),
  });
}

function compileLimits(limits: Limits | undefined): CompiledRule['limits'] {
  return Object.freeze({ upBytes: limits?.upBytes ?? null, downBytes: limits?.downBytes ?? null });
}

function mustParseRange(text: string): AddressRange {
  const range = parseRange(text);
  if ('problem' in range)
    throw new Error(`range \`${text}\` reached the compiler unchecked: ${range.problem}`);
  return range;
}
