// Services that one run adds to a policy (`--service`, `--host-port`). Reads no file and opens no listener.

import { classifyAddress, unwrapAddress } from './address-class.ts';
import { parseRange } from './address-range.ts';
import { parseAddress } from './address.ts';
import { compilePolicy, type Policy } from './compile.ts';
import { canonicalDocument } from './document.ts';
import { printable } from './printable.ts';
import { PolicyError, type Problem } from './problem.ts';
import type { RunService } from './rule.ts';
import { semanticProblems } from './semantics.ts';
import { parseTarget, type Target } from './target.ts';

/**
 * The policy with the services of one run beside its own. Throws PolicyError when a name is taken or a service
 * could not be enforced. Deny rules stay in force over them.
 */
export function withServices(policy: Policy, extra: readonly RunService[]): Policy {
  if (extra.length === 0) return policy;
  const services: readonly RunService[] = [...policy.document.services, ...extra];
  const problems = serviceProblems(services);
  if (problems.length > 0) throw new PolicyError(problems);
  const documents = services.map(({ loopback: _loopback, ...document }) => document);
  const loopback = extra.filter((service) => service.loopback === true).map(({ name }) => name);
  const document = canonicalDocument({ ...policy.document, services: documents });
  return compilePolicy(document, loopback);
}

function serviceProblems(services: readonly RunService[]): Problem[] {
  const entries = services.map((value, index) => ({ index, value }));
  return semanticProblems({ allow: [], deny: [], services: entries, tests: [] });
}

/**
 * Reads `alias=host:port`, or `alias=host:port@range,range` to pin a host that resolves to private addresses. A literal
 * address pins itself and may be loopback. Throws Error with a help line on ranges, wildcards and anything else.
 */
export function parseServiceFlag(text: string): RunService {
  const [name, rest] = cut(text, '=');
  const [place, pins] = cut(rest ?? '', '@');
  if (rest === undefined) throw flagError(text, 'has no `=`', flagHelp);
  const target = parseTarget(place);
  if (target.kind === 'malformed') throw flagError(text, target.problem, `${target.help}; ${flagHelp}`);
  const host = target.kind === 'name' ? target.host : unwrapAddress(target.address).text;
  const service: RunService = {
    id: `service/${name}`,
    name,
    host,
    port: target.port,
    reason: 'given for this run',
    ...(pins === undefined ? {} : { addresses: pins.split(',').map(withLength) }),
    ...(isLoopback(host) ? { loopback: true } : {}),
  };
  checkFlag(text, service, target, place);
  return service;
}

const flagHelp = 'write `alias=host:port`, such as `db=db.corp.example:5432`: one host and one port';

function checkFlag(text: string, service: RunService, target: Target, place: string): void {
  const written = authorityOf(service);
  if (target.kind === 'address' && place !== written)
    throw flagError(text, 'has an odd spelling', `write \`${written}\``);
  const problem = serviceProblems([service])[0];
  if (problem !== undefined) throw flagError(text, problem.message, problem.help);
}

function flagError(text: string, problem: string, help: string): Error {
  return new Error(`service \`${printable(text)}\`: ${problem}\nhelp: ${help}`);
}

function cut(text: string, mark: string): [before: string, after: string | undefined] {
  const at = text.indexOf(mark);
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

// One address may be given without its prefix length; a bad range is left for the check to name.
function withLength(text: string): string {
  const range = parseRange(text);
  return 'problem' in range || text.includes('/') ? text : range.text;
}

function isLoopback(host: string): boolean {
  const address = parseAddress(host);
  return address !== undefined && classifyAddress(address).kind === 'loopback';
}

function authorityOf({ host, port }: Pick<RunService, 'host' | 'port'>): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The target that a client of this service asks for. */
export function targetOf(service: Pick<RunService, 'host' | 'port'>): Target {
  return parseTarget(authorityOf(service));
}
