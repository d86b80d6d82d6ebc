// What one rule, service or test must be beyond its shape: spellings, ports, ranges, risks. Sees no other entry.

import { classifyAddress, isExceptable, unwrapAddress } from './address-class.ts';
import { parseRange } from './address-range.ts';
import { parseAddress, type Address } from './address.ts';
import type { AuthoredRule, AuthoredService, TestDocument } from './document.ts';
import { canonicalHost, isAliasName } from './host.ts';
import { parsePattern, publicSuffixOf } from './pattern.ts';
import { printable } from './printable.ts';
import type { Problem } from './problem.ts';
import { parseTarget } from './target.ts';

type Where = Pick<Problem, 'pointer' | 'nix'>;
/** The place of one key of the entry at hand. */
export type Place = (...keys: (string | number)[]) => Where;
export type Report = (place: Where, message: string, help: string) => void;

/** A service of a document, or one of a run, which alone may be marked as loopback. */
export type CheckedService = AuthoredService & { readonly loopback?: boolean };

/** Ports behind which mail and DNS wait: a tunnel there carries more than the host in its name. */
const riskyPorts: ReadonlyMap<number, string> = new Map([
  [25, 'mail relays'],
  [53, 'a resolver forwards names anywhere'],
  [853, 'a resolver forwards names anywhere'],
]);

export function checkAllow(rule: AuthoredRule, place: Place, report: Report): void {
  checkPattern(rule.host, place('host'), report);
  if (rule.acceptRisk === undefined) checkSuffix(rule.host, place('host'), report);
  checkPorts(rule, place, report);
  checkRanges(rule.addresses, place, report);
  checkDate(rule.reviewBy, place('reviewBy'), report);
  if (rule.protocol === 'http' && rule.ech !== undefined) {
    report(place('ech'), 'plain HTTP has no ClientHello', 'remove "ech", or "protocol"');
  }
}

export function checkDeny(rule: AuthoredRule, place: Place, report: Report): void {
  checkPattern(rule.host, place('host'), report);
  checkDate(rule.reviewBy, place('reviewBy'), report);
}

export function checkService(service: CheckedService, place: Place, report: Report): void {
  if (!isAliasName(service.name)) {
    report(
      place('name'),
      `\`${printable(service.name)}\` cannot be the alias of a service`,
      'give one lower-case label such as `orders-db`; not `localhost`',
    );
  }
  checkServicePort(service, place('port'), report);
  const literal = parseAddress(service.host);
  if (literal === undefined) checkServiceHost(service.host, place('host'), report);
  else checkLiteral(literal, service, place, report);
  checkRanges(service.addresses, place, report);
}

export function checkTest(test: TestDocument, place: Place, report: Report): void {
  const target = parseTarget(test.target, 443);
  // A test may well expect that an address or a malformed request is denied; that one is allowed can never hold.
  if (target.kind === 'malformed' && test.expect === 'allow')
    report(place('target'), target.problem, target.help);
}

function checkPattern(host: string, where: Where, report: Report): void {
  const pattern = parsePattern(host);
  if ('problem' in pattern) report(where, `\`${printable(host)}\`: ${pattern.problem}`, pattern.help);
}

function checkSuffix(host: string, where: Where, report: Report): void {
  const pattern = parsePattern(host);
  const suffix = 'problem' in pattern ? undefined : publicSuffixOf(pattern);
  if (suffix === undefined) return;
  report(
    where,
    `\`${host}\` stands over the public suffix \`${suffix}\`, where anybody may own a name`,
    'name the host you need, or say in "acceptRisk" why every name there is fine',
  );
}

function checkPorts(rule: AuthoredRule, place: Place, report: Report): void {
  for (const [i, port] of (rule.ports ?? []).entries()) {
    const risk = riskyPorts.get(port);
    if (rule.ports?.indexOf(port) !== i)
      report(place('ports', i), `port \`${port}\` stands twice`, 'keep one of the two');
    else if (risk !== undefined && rule.acceptRisk === undefined)
      reportRisk(port, risk, place('ports', i), report);
  }
}

function checkServicePort(service: AuthoredService, where: Where, report: Report): void {
  const risk = riskyPorts.get(service.port);
  if (risk !== undefined && service.acceptRisk === undefined) reportRisk(service.port, risk, where, report);
}

function reportRisk(port: number, risk: string, where: Where, report: Report): void {
  report(
    where,
    `port \`${port}\` needs acceptRisk: ${risk}`,
    'drop the port, or say in "acceptRisk" in the policy why it is fine',
  );
}

function checkServiceHost(host: string, where: Where, report: Report): void {
  const read = canonicalHost(host);
  if ('problem' in read) {
    const help =
      host.includes('*') || host.includes('/')
        ? 'a service is one host or one address, never many'
        : read.help;
    report(where, `\`${printable(host)}\`: ${read.problem}`, help);
  } else if (read.host !== host) {
    report(where, `\`${host}\` is not in its canonical spelling`, `write \`${read.host}\``);
  }
}

function checkLiteral(literal: Address, service: CheckedService, place: Place, report: Report): void {
  if (unwrapAddress(literal).text !== service.host) {
    const where = place('host');
    report(
      where,
      `\`${service.host}\` is not in its canonical spelling`,
      `write \`${unwrapAddress(literal).text}\``,
    );
  }
  const { kind, source } = classifyAddress(literal);
  const isOpenLoopback = service.loopback === true && kind === 'loopback';
  if (!isOpenLoopback && !isExceptable(kind)) reportNever(service.host, kind, source, place('host'), report);
  if (service.addresses !== undefined) {
    report(place('addresses'), 'an address literal pins itself', 'remove "addresses", or give a host name');
  }
}

function checkRanges(ranges: readonly string[] | undefined, place: Place, report: Report): void {
  for (const [i, text] of (ranges ?? []).entries()) checkRange(text, place('addresses', i), report);
  for (const [i, text] of (ranges ?? []).entries()) {
    if (ranges?.indexOf(text) !== i)
      report(place('addresses', i), `\`${printable(text)}\` stands twice`, 'keep one of the two');
  }
}

function checkRange(text: string, where: Where, report: Report): void {
  const range = parseRange(text);
  if ('problem' in range) {
    report(
      where,
      `\`${printable(text)}\`: ${range.problem}`,
      'give a CIDR range such as `10.20.0.0/16`, or one address such as `10.20.4.8/32`',
    );
    return;
  }
  if (range.text !== text)
    report(where, `\`${printable(text)}\` is not in its canonical spelling`, `write \`${range.text}\``);
  const { kind, source } = classifyAddress(range.base);
  if (!isExceptable(kind)) reportNever(text, kind, source, where, report);
  else if (unwrapAddress(range.base) !== range.base) {
    report(
      where,
      `\`${text}\` wraps IPv4 ranges in IPv6`,
      'write the IPv4 range: wrapped addresses are unwrapped before they are judged',
    );
  }
}

function reportNever(text: string, kind: string, source: string, where: Where, report: Report): void {
  report(
    where,
    `\`${text}\` is ${kind} (${source}), which no rule or service of a policy can except`,
    'remove it; loopback of the proxy host is reached with `--host-port` or `--service` of one run only',
  );
}

function checkDate(text: string | undefined, where: Where, report: Report): void {
  if (text === undefined) return;
  const [year = 0, month = 0, day = 0] = text.split('-').map(Number);
  const date = new Date(Date.UTC(year, month - 1, day));
  if (date.getUTCMonth() === month - 1 && date.getUTCDate() === day) return;
  report(where, `\`${text}\` is not a date`, 'write it as YYYY-MM-DD');
}
