// What to say beside a decision: a hint, perhaps the host that was meant, and how to ask for more. Changes no verdict.
// The cost is bounded: a refusal is made for every request of a client that may be hostile.

import type { Policy } from './compile.ts';
import type { Decision } from './decision.ts';
import { nearest } from './edit-distance.ts';
import { defaultPort } from './policy-tests.ts';
import { reasonText, type Reason } from './reasons.ts';
import type { Target } from './target.ts';

export interface Explanation {
  readonly hint: string;
  /** A host, or host:port, that this policy allows; or the host:port of what was a URL. */
  readonly didYouMean?: string;
  readonly howToRequest: string;
}

/** Says what a decision means for whoever asked. With the `target` that was asked for, a malformed one gets its own hint. */
export function explain(policy: Policy, decision: Decision, target?: Target): Explanation {
  const malformed = decision.reason === 'request_malformed' && target?.kind === 'malformed';
  const hint = malformed ? target.help : reasonText(decision.reason).hint;
  const didYouMean = malformed
    ? (target.meant ?? fullName(policy, target.shown))
    : suggestion(policy, decision);
  const special = specialHint(policy, decision);
  return {
    hint: special === undefined ? hint : `${special} ${hint}`,
    ...(didYouMean === undefined ? {} : { didYouMean }),
    howToRequest: howToRequest(decision),
  };
}

function suggestion(policy: Policy, decision: Decision): string | undefined {
  if (decision.reason === 'port_not_allowed') return otherPort(policy, decision);
  if (decision.reason !== 'no_rule_matched' || decision.mode === 'service') return undefined;
  const { host } = decision;
  const sibling = host.startsWith('www.') ? host.slice('www.'.length) : `www.${host}`;
  if (isNamed(policy, sibling)) return sibling;
  const near = nearest(host, policy.allow.firstHosts);
  return near !== undefined && isNamed(policy, near) ? near : undefined;
}

/** The host that a single label is the beginning of, with a port that its rule allows. */
function fullName(policy: Policy, shown: string): string | undefined {
  const label = shown.toLowerCase().split(':', 1)[0] ?? '';
  if (label === '' || label.includes('.')) return undefined;
  for (const host of policy.allow.firstHosts) {
    const [port] = policy.allow.find(host)?.ports ?? [];
    if (host.startsWith(`${label}.`) && isNamed(policy, host) && port !== undefined) return `${host}:${port}`;
  }
  return undefined;
}

function isNamed(policy: Policy, host: string): boolean {
  return policy.allow.find(host) !== undefined && policy.deny.find(host) === undefined;
}

function otherPort(policy: Policy, { host, mode }: Decision): string | undefined {
  const [port] = (mode !== 'service' ? policy.allow.find(host)?.ports : undefined) ?? [];
  return port === undefined ? undefined : `${host}:${port}`;
}

function specialHint(policy: Policy, { reason, host, port }: Decision): string | undefined {
  if (reason !== 'no_rule_matched' && reason !== 'host_is_address') return undefined;
  for (const [alias, service] of policy.services) {
    if (service.host === host && port !== null && service.ports.has(port)) {
      return `This is the service \`${alias}\`: connect to \`${alias}:${port}\` without the proxy.`;
    }
  }
  if (!policy.allow.hasWildcard(host)) return undefined;
  return `\`*.${host}\` is allowed, but a wildcard does not cover the name it stands on.`;
}

function howToRequest({ verdict, reason, host, port }: Decision): string {
  if (verdict === 'allow') return 'nothing to request: this is allowed';
  const line = requests.get(reason);
  return line === undefined ? 'nothing to request: change the request itself' : line(host, port);
}

const requests: ReadonlyMap<Reason, (host: string, port: number | null) => string> = new Map<
  Reason,
  (host: string, port: number | null) => string
>([
  ['no_rule_matched', (host, port) => `ask the owner of the policy for: ${nixLine(host, port)}`],
  [
    'port_not_allowed',
    (host, port) => `ask the owner of the policy to add port ${port ?? 0} to the rule of ${host}`,
  ],
  ['rule_denied', () => 'ask the owner of the policy; no rule can be added while the deny rule stands'],
  [
    'address_not_public',
    () => 'ask the owner of the policy to pin "addresses" on this rule, if the host is internal on purpose',
  ],
  ['host_is_address', () => 'ask for the host name, or for a named service if there is none'],
]);

function nixLine(host: string, port: number | null): string {
  const name = `allow."${host}"`;
  return port === null || port === defaultPort
    ? `${name} = "why it is needed";`
    : `${name} = { ports = [ ${port} ]; reason = "why it is needed"; };`;
}
