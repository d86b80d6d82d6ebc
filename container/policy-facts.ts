// The few things the runner reads out of a compiled policy: its services, its ports, and one name to try at the launch gate. It decides nothing.
import type { ServicePort } from './flag-values.ts';

/** What a run needs to know of its policy. */
export interface PolicyFacts {
  readonly services: readonly ServicePort[];
  /** Every port on which a rule allows TLS or plain HTTP. */
  readonly ports: readonly number[];
  /** The first name that is allowed exactly, with its first port; null when only patterns or nothing is allowed. */
  readonly allowed: { readonly host: string; readonly port: number } | null;
}

/** Reads canonical policy text, as the policy's own loader has checked and written it. */
export function policyFacts(text: string): PolicyFacts {
  const document: unknown = JSON.parse(text);
  const denied = list(document, 'deny').map((rule) => String(field(rule, 'host')));
  const rule = list(document, 'allow').find((one) => isExact(one) && !denied.some((by) => covers(by, one)));
  const [port = 443] = list(rule, 'ports');
  return {
    services: list(document, 'services').map((one) => ({
      name: String(field(one, 'name')),
      port: Number(field(one, 'port')),
    })),
    ports: [...new Set(list(document, 'allow').flatMap(portsOf))],
    allowed: rule === undefined ? null : { host: String(field(rule, 'host')), port: Number(port) },
  };
}

function portsOf(rule: unknown): readonly number[] {
  const ports = list(rule, 'ports').map(Number);
  return ports.length > 0 ? ports : [field(rule, 'protocol') === 'http' ? 80 : 443];
}

function isExact(rule: unknown): boolean {
  return !String(field(rule, 'host')).includes('*') && field(rule, 'protocol') !== 'http';
}

/** A deny rule wins, also over a name that is allowed exactly. */
function covers(pattern: string, rule: unknown): boolean {
  const host = String(field(rule, 'host'));
  return pattern === host || (pattern.startsWith('*.') && host.endsWith(pattern.slice(1)));
}

function list(value: unknown, key: string): readonly unknown[] {
  const found = field(value, key);
  return Array.isArray(found) ? found : [];
}

function field(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([name]) => name === key)?.[1];
}
