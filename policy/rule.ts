// One rule or service of a checked document in the form the gates read. Finds none (host-index.ts) and decides nothing.

import { parseRange, rangeOf, type AddressRange } from './address-range.ts';
import { parseAddress } from './address.ts';
import { defaultPorts, type Limits, type RuleDocument, type ServiceDocument } from './document.ts';

/** A service of the policy, or one that a run has added. Only the latter may be loopback. */
export interface RunService extends ServiceDocument {
  /** The run itself named a loopback address of the proxy host; a policy document cannot. */
  readonly loopback?: boolean;
}

/** A deny rule, and what a decision says of any rule. */
export interface DenyRule {
  readonly id: string;
  readonly host: string;
  readonly group: string | null;
  readonly reason: string;
}

/** One allow rule or service. */
export interface CompiledRule extends DenyRule {
  /** What a decision says of it: made once, not for every decision. */
  readonly shown: DenyRule;
  readonly ports: ReadonlySet<number>;
  readonly protocol: 'tls' | 'http' | 'tcp';
  readonly ech: 'deny' | 'allow';
  /** Every answer must lie in one of these; null means global unicast only. */
  readonly ranges: readonly AddressRange[] | null;
  readonly loopback: boolean;
  readonly limits: { readonly upBytes: number | null; readonly downBytes: number | null };
}

/** A service, under its alias. */
export interface CompiledService extends CompiledRule {
  readonly name: string;
  readonly port: number;
}

export function compileAllow(rule: RuleDocument): CompiledRule {
  const protocol = rule.protocol ?? 'tls';
  const shown = compileDeny(rule);
  return Object.freeze({
    ...shown,
    shown,
    ports: new Set(rule.ports ?? [defaultPorts[protocol]]),
    protocol,
    ech: rule.ech ?? 'deny',
    ranges: rule.addresses === undefined ? null : rule.addresses.map(mustParseRange),
    loopback: false,
    limits: compileLimits(rule.limits),
  });
}

export function compileDeny({ id, host, group, reason }: Omit<RuleDocument, 'ports'>): DenyRule {
  return Object.freeze({ id, host, group: group ?? null, reason });
}

export function compileService(service: ServiceDocument, loopback: boolean): CompiledService {
  const literal = parseAddress(service.host);
  const ranges = literal === undefined ? service.addresses?.map(mustParseRange) : [rangeOf(literal)];
  const shown = compileDeny(service);
  return Object.freeze({
    ...shown,
    shown,
    name: service.name,
    port: service.port,
    ports: new Set([service.port]),
    protocol: 'tcp',
    ech: 'deny',
    ranges: ranges ?? null,
    loopback,
    limits: unlimited,
  });
}

/** Limits of a rule that has none. */
export const unlimited: CompiledRule['limits'] = Object.freeze({ upBytes: null, downBytes: null });

function compileLimits(limits: Limits | undefined): CompiledRule['limits'] {
  if (limits === undefined) return unlimited;
  return Object.freeze({ upBytes: limits.upBytes ?? null, downBytes: limits.downBytes ?? null });
}

function mustParseRange(text: string): AddressRange {
  const range = parseRange(text);
  if ('problem' in range)
    throw new Error(`range \`${text}\` reached the compiler unchecked: ${range.problem}`);
  return range;
}
