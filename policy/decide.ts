// The three gates: decide() judges the name, grant() the addresses, confirm() the server name. Pure: no clock, no sockets.
// Precedence of gate 1: malformed, unknown principal, deny rule, most specific allow rule, default deny.

import { classifyAddress, isExceptable, isSameAddress, unwrapAddress } from './address-class.ts';
import { parseAddress, type Address } from './address.ts';
import type { Policy } from './compile.ts';
import type { Decision, EgressRequest, ServerNameFact } from './decision.ts';
import { canonicalHost } from './host.ts';
import { printable } from './printable.ts';
import type { Reason } from './reasons.ts';
import { unlimited, type CompiledRule, type DenyRule } from './rule.ts';
import type { Target } from './target.ts';

/** Only grant() makes one. The private member is what neither a literal nor a spread of a real one has, so that neither compiles. */
class GrantedTunnel {
  readonly #granted = true;
  readonly request: EgressRequest;
  readonly decision: Decision;
  /** INVARIANT: never empty; each has passed the address guard. */
  readonly addresses: readonly Address[];
  readonly port: number;
  readonly host: string;

  constructor(request: EgressRequest, decision: Decision, addresses: readonly Address[], port: number) {
    this.request = request;
    this.decision = decision;
    this.addresses = Object.freeze([...addresses]);
    this.port = port;
    this.host = decision.host;
    Object.freeze(this);
  }

  static made(leave: GrantedTunnel): boolean {
    return #granted in leave && leave.#granted;
  }
}

/** Leave to open one tunnel. */
export type Grant = GrantedTunnel;

/** Whether grant() made `leave`: holds at run time what the type holds at compile time. */
export function isGrant(leave: Grant): boolean {
  return GrantedTunnel.made(leave);
}

/** Gate 1: the name, before any look-up. */
export function decide(policy: Policy, request: EgressRequest): Decision {
  const { target, mode, principal } = request;
  if (target.kind === 'malformed')
    return deny(policy, request, target.reason ?? 'request_malformed', null, target.problem);
  if (principal === undefined) return deny(policy, request, 'principal_unknown', null);
  const denied = target.kind === 'name' ? policy.deny.find(target.host) : undefined;
  if (denied !== undefined) return deny(policy, request, 'rule_denied', denied);
  if (mode === 'service') return decideService(policy, request, target);
  if (target.kind === 'address') return deny(policy, request, 'host_is_address', null);
  const rule = policy.allow.find(target.host);
  if (rule === undefined) return deny(policy, request, 'no_rule_matched', null);
  if (!rule.ports.has(target.port)) return deny(policy, request, 'port_not_allowed', rule, portsOf(rule));
  // A tunnel is opaque after its first bytes: plain HTTP in it could name any Host.
  if (rule.protocol !== (mode === 'http' ? 'http' : 'tls'))
    return deny(
      policy,
      request,
      'protocol_not_allowed',
      rule,
      `the rule is for ${protocolNames[rule.protocol]}`,
    );
  return allow(policy, request, 'rule_matched', rule);
}

const protocolNames = { tls: 'TLS', http: 'plain HTTP', tcp: 'plain TCP' } as const;

function portsOf({ ports }: CompiledRule): string {
  return `ports allowed: ${[...ports].join(', ')}`;
}

function decideService(
  policy: Policy,
  request: EgressRequest,
  target: Exclude<Target, { kind: 'malformed' }>,
): Decision {
  const alias = request.service ?? '';
  const rule = policy.services.get(alias);
  if (rule === undefined)
    return deny(policy, request, 'no_rule_matched', null, `there is no service \`${printable(alias)}\``);
  if (!isHostOf(rule, target))
    return deny(policy, request, 'no_rule_matched', rule, 'the service leads to another host');
  if (!rule.ports.has(target.port)) return deny(policy, request, 'port_not_allowed', rule);
  return allow(policy, request, 'service_matched', rule);
}

function isHostOf(service: CompiledRule, target: Exclude<Target, { kind: 'malformed' }>): boolean {
  if (target.kind === 'name') return target.host === service.host;
  const literal = parseAddress(service.host);
  return literal !== undefined && isSameAddress(literal, target.address);
}

function allow(policy: Policy, request: EgressRequest, reason: Reason, rule: CompiledRule): Decision {
  return answer(policy, request, 'allow', reason, rule, null);
}

function deny(
  policy: Policy,
  request: EgressRequest,
  reason: Reason,
  rule: CompiledRule | DenyRule | null,
  detail: string | null = null,
): Decision {
  return answer(policy, request, 'deny', reason, rule, detail);
}

function answer(
  policy: Policy,
  { principal, target, mode }: EgressRequest,
  verdict: Decision['verdict'],
  reason: Reason,
  rule: CompiledRule | DenyRule | null,
  detail: string | null,
): Decision {
  const full = rule !== null && 'shown' in rule ? rule : null;
  return Object.freeze({
    verdict,
    reason,
    host: hostText(target),
    port: target.kind === 'malformed' ? null : target.port,
    principal: principal?.name ?? null,
    mode,
    rule: full?.shown ?? rule,
    protocol: full?.protocol ?? null,
    ech: full?.ech ?? 'deny',
    limits: full?.limits ?? unlimited,
    policy: policy.digest,
    detail,
  });
}

function hostText(target: Target): string {
  if (target.kind === 'name') return target.host;
  return target.kind === 'address' ? target.address.text : target.shown;
}

/**
 * Gate 2: every address the name resolved to. One bad answer refuses the whole name. `own` are the addresses of the
 * proxy host. The verdict on the name is taken again from the policy, so a made-up decision opens nothing.
 */
export function grant(
  policy: Policy,
  request: EgressRequest,
  decision: Decision,
  addresses: readonly Address[],
  own: readonly Address[],
): Grant | Decision {
  if (decision.policy !== policy.digest)
    throw new Error('bug: a decision of one policy was taken to another');
  const judged = decide(policy, request);
  const rule = judged.verdict === 'allow' ? ruleOf(policy, request) : undefined;
  if (rule === undefined || request.target.kind === 'malformed') return judged;
  const problem = addressesProblem(rule, addresses, own);
  if (problem !== undefined) return deny(policy, request, 'address_not_public', rule, problem);
  return new GrantedTunnel(request, judged, addresses, request.target.port);
}

function addressesProblem(
  rule: CompiledRule,
  addresses: readonly Address[],
  own: readonly Address[],
): string | undefined {
  if (addresses.length === 0) return 'the name has no address';
  for (const address of addresses) {
    const problem = addressProblem(rule, address, own);
    if (problem !== undefined) return `\`${address.text}\` is ${problem}`;
  }
  return undefined;
}

function ruleOf(policy: Policy, { target, mode, service }: EgressRequest): CompiledRule | undefined {
  if (mode === 'service') return policy.services.get(service ?? '');
  return target.kind === 'name' ? policy.allow.find(target.host) : undefined;
}

function addressProblem(rule: CompiledRule, address: Address, own: readonly Address[]): string | undefined {
  const { isPublic, kind, source } = classifyAddress(address);
  const isOpenLoopback = rule.loopback && kind === 'loopback';
  if (!isOpenLoopback && isOneOf(own, address)) return 'an address of the proxy host itself';
  if (rule.ranges === null) return isPublic || isOpenLoopback ? undefined : `${kind} (${source})`;
  if (!isOpenLoopback && !isExceptable(kind)) return `${kind} (${source}), which no rule can except`;
  const judged = unwrapAddress(address);
  return rule.ranges.some((range) => range.contains(judged))
    ? undefined
    : `outside the addresses of rule \`${rule.id}\``;
}

function isOneOf(own: readonly Address[], address: Address): boolean {
  for (const mine of own) if (isSameAddress(mine, address)) return true;
  return false;
}

/** Gate 3: the first bytes of the tunnel. The same allow decision, or a denial. Opaque services have nothing to confirm. */
export function confirm(leave: Grant, fact: ServerNameFact): Decision {
  const { decision } = leave;
  if (decision.protocol === 'tcp') return decision;
  const [reason, detail] = helloProblem(leave, fact) ?? [];
  if (reason === undefined) return decision;
  return Object.freeze({ ...decision, verdict: 'deny', reason, detail: detail ?? null });
}

function helloProblem(
  { decision, host }: Grant,
  fact: ServerNameFact,
): readonly [Reason, string?] | undefined {
  switch (fact.kind) {
    case 'not_tls':
      return ['not_tls'];
    case 'malformed':
      return ['hello_malformed', printable(fact.problem)];
    case 'timeout':
      return ['hello_timeout'];
    case 'closed':
      return ['hello_malformed', 'the client closed before its ClientHello was whole'];
    // A hostile client may put the allowed name outside and the real one inside, so ECH is judged before the name.
    case 'no_server_name':
      return fact.ech && decision.ech === 'deny' ? ['ech_refused'] : ['server_name_missing'];
    case 'server_name':
      return fact.ech && decision.ech === 'deny' ? ['ech_refused'] : nameProblem(host, fact.name);
    default:
      return fact satisfies never;
  }
}

function nameProblem(host: string, name: string): readonly [Reason, string] | undefined {
  // A canonical host has no trailing dot.
  if (name === host) return undefined;
  const read = canonicalHost(name);
  // RFC 6066 §3: no trailing dot. With one, a server may choose another site, or none, than for the name that was judged.
  if ('host' in read && read.host === host && !name.endsWith('.')) return undefined;
  return ['server_name_mismatch', `the ClientHello names \`${printable(name)}\``];
}
