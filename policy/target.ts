// What a client asked for, read once by a strict grammar. Never resolves, never decides.
// An address in any spelling that inet_aton or a URL parser would take is seen as an address.

import { addressFromBytes, parseAddress, type Address } from './address.ts';
import { canonicalHost, isDigit, type CanonicalHost, type HostProblem } from './host.ts';
import { shownAuthority, shownPort } from './shown.ts';

/** What a client asked for. */
export type Target =
  | { readonly kind: 'name'; readonly host: CanonicalHost; readonly port: number }
  | { readonly kind: 'address'; readonly address: Address; readonly port: number }
  | {
      readonly kind: 'malformed';
      /** Printable, at most 80 characters; without userinfo, path and query. */
      readonly shown: string;
      readonly problem: string;
      /** What to write instead. */
      readonly help: string;
      /** The canonical `host:port` inside a URL, for a hint only. */
      readonly meant?: string;
      /** Why, when the first bytes of a connection were to say what it asks for and did not; absent is `request_malformed`. */
      readonly reason?: UnnamedReason;
    };

/** Why a connection whose hello is its request asks for nothing. */
export type UnnamedReason =
  | 'server_name_missing'
  | 'ech_refused'
  | 'not_tls'
  | 'hello_malformed'
  | 'hello_timeout';

const maxAuthorityLength = 300;

/**
 * Reads the authority-form of CONNECT (RFC 9110 §9.3.6): `host:port`, `a.b.c.d:port` or `[v6]:port`. Without a port
 * `defaultPort` stands, if one is given; the wire gives none.
 */
export function parseTarget(authority: string, defaultPort?: number): Target {
  const malformed = (problem: HostProblem & { readonly meant?: string }): Target => ({
    ...problem,
    kind: 'malformed',
    shown: shownAuthority(authority),
  });
  if (authority.length > maxAuthorityLength) {
    return malformed({ problem: 'the request is too long for a host and a port', help: 'send `host:port`' });
  }
  const parts = splitAuthority(authority);
  if ('problem' in parts) return malformed(parts);
  const port = parts.port === undefined ? defaultPort : parsePort(parts.port);
  if (port === undefined) return malformed(parts.port === undefined ? noPort : badPort(parts.port));
  const read = parts.bracketed ? parseBracketed(parts.host) : parseHost(parts.host);
  if ('problem' in read) return malformed(read);
  return read.kind === 'name'
    ? { kind: 'name', host: read.host, port }
    : { kind: 'address', address: read.address, port };
}

const noPort: HostProblem = { problem: 'the port is missing', help: 'send `host:port`' };

function badPort(text: string): HostProblem {
  const shown = shownPort(text);
  return {
    problem: shown === undefined ? 'the port is not a number' : `\`${shown}\` is not a port`,
    help: 'give a number from 1 to 65535 without sign or leading zero',
  };
}

/** A decimal port from 1 to 65535 without sign or leading zero. */
export function parsePort(text: string): number | undefined {
  if (text.length === 0 || text.length > 5 || text.startsWith('0')) return undefined;
  for (let i = 0; i < text.length; i += 1) if (!isDigit(text.charCodeAt(i), 10)) return undefined;
  const port = Number(text);
  return port <= 65_535 ? port : undefined;
}

interface Authority {
  readonly host: string;
  readonly port: string | undefined;
  readonly bracketed: boolean;
}

function splitAuthority(text: string): Authority | (HostProblem & { readonly meant?: string }) {
  if (text.startsWith('[')) return splitBracketed(text);
  const colon = text.indexOf(':');
  if (colon === -1) return { host: text, port: undefined, bracketed: false };
  if (text.startsWith('//', colon + 1)) {
    const meant = authorityIn(text.slice(0, colon), text.slice(colon + '://'.length));
    const url = {
      problem: 'this is a URL, not a host and a port',
      help: 'leave out the scheme and the path',
    };
    return meant === undefined ? url : { ...url, meant };
  }
  if (text.includes(':', colon + 1)) {
    return {
      problem: 'there is more than one colon',
      help: 'put an IPv6 address in brackets, as in `[2001:db8::1]:443`',
    };
  }
  return { host: text.slice(0, colon), port: text.slice(colon + 1), bracketed: false };
}

const schemePorts: ReadonlyMap<string, number> = new Map([
  ['https', 443],
  ['http', 80],
]);

// Strict again: what is not one host and one port up to the first `/`, `?` or `#` (userinfo, an address) is not hinted at.
function authorityIn(scheme: string, rest: string): string | undefined {
  const [authority = ''] = rest.split(/[/?#]/u, 1);
  const target = authority.includes('://')
    ? undefined
    : parseTarget(authority, schemePorts.get(scheme.toLowerCase()));
  return target?.kind === 'name' ? `${target.host}:${target.port}` : undefined;
}

function splitBracketed(text: string): Authority | HostProblem {
  const end = text.indexOf(']');
  const rest = text.slice(end + 1);
  if (end === -1 || (rest !== '' && !rest.startsWith(':'))) {
    return {
      problem: 'the brackets do not close around one IPv6 address',
      help: 'write `[2001:db8::1]:443`',
    };
  }
  return { host: text.slice(1, end), port: rest === '' ? undefined : rest.slice(1), bracketed: true };
}

type Host =
  | { readonly kind: 'name'; readonly host: CanonicalHost }
  | { readonly kind: 'address'; readonly address: Address };

function parseBracketed(text: string): Host | HostProblem {
  const address = parseAddress(text);
  if (address?.family === 6) return { kind: 'address', address };
  return {
    problem: text.includes('%') ? 'a zone id is not allowed' : 'brackets may hold an IPv6 address only',
    help: 'write `[2001:db8::1]:443`, or a host name without brackets',
  };
}

function parseHost(text: string): Host | HostProblem {
  const read = canonicalHost(text);
  if ('host' in read) return { kind: 'name', host: read.host };
  const address = parseLegacyAddress(text);
  return address === undefined ? read : { kind: 'address', address };
}

// Every spelling that inet_aton takes: one to four parts, decimal, octal or hex; the last part fills what is left.
function parseLegacyAddress(text: string): Address | undefined {
  const parts = (text.endsWith('.') ? text.slice(0, -1) : text).toLowerCase().split('.');
  if (parts.length > 4) return undefined;
  const numbers = parts.map(parseLegacyNumber);
  const last = numbers.pop();
  if (last === undefined || last >= 256 ** (4 - numbers.length)) return undefined;
  let value = last;
  for (const [i, n] of numbers.entries()) {
    if (n === undefined || n > 255) return undefined;
    value += n * 256 ** (3 - i);
  }
  return addressFromBytes(
    Uint8Array.of(value / 2 ** 24, (value / 2 ** 16) % 256, (value / 2 ** 8) % 256, value % 256),
  );
}

function parseLegacyNumber(part: string): number | undefined {
  const hex = part.startsWith('0x');
  const octal = !hex && part.length > 1 && part.startsWith('0');
  const base = hex ? 16 : octal ? 8 : 10;
  const digits = hex ? part.slice(2) : part;
  if (part.length === 0 || digits.length > 24) return undefined;
  let value = 0;
  for (let i = 0; i < digits.length; i += 1) {
    const code = digits.charCodeAt(i);
    if (!isDigit(code, base)) return undefined;
    value = value * base + (code >= 0x61 ? code - 0x57 : code - 0x30);
  }
  return value;
}
