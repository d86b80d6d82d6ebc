// What the head of a plain-HTTP request asks for, in parts that a new head can be built from; or why it is refused. Pure: opens nothing.
// The proxy port takes the absolute form (RFC 9112 §3.2.2), the transparent one the origin form; both only what every reader would read alike.
import type { Target } from '../../policy/index.ts';
import { malformed, readAuthority, isSameTarget } from './authority.ts';
import { endToEnd, listOf, valuesOf } from './http-fields.ts';
import { framingOf, type Framing } from './http-framing.ts';
import type { Asked } from './head-fault.ts';
import type { RequestHead } from './request-head.ts';

/** One request, ready to be written anew. */
export interface HttpRequest {
  readonly method: string;
  /** Path and query, from the first slash. */
  readonly path: string;
  /** Canonical authority; without the port when that is 80. */
  readonly host: string;
  /** Name and value in turn, end-to-end fields only. */
  readonly fields: readonly string[];
  readonly framing: Framing;
  /** Whether the client wants a WebSocket; every other upgrade is left out. */
  readonly isUpgrade: boolean;
  readonly expectsContinue: boolean;
  readonly minor: 0 | 1;
  /** Whether the client means to ask again on the same connection. */
  readonly keepsAlive: boolean;
}

/** `request` is there when the head is one that can be served. */
export interface HttpAsked extends Asked {
  readonly request?: HttpRequest;
}

const httpPort = 80;
export const originHelp = 'send `GET /path HTTP/1.1` with one Host, which names this port unless it is 80';
const help =
  'send `GET http://host/path HTTP/1.1` with one Host that is the same; for https URLs send CONNECT';

/** What a client of the proxy port asks for: its request line names host and port. */
export function httpAskedBy(head: RequestHead): HttpAsked {
  const [, authority, path] = /^http:\/\/([^/?#]*)([^#]*)$/iu.exec(head.target) ?? [];
  if (authority === undefined || path === undefined) return { target: notAbsolute(head.target) };
  return askedFor(head, readAuthority(Buffer.from(authority, 'latin1').toString(), httpPort), path);
}

/** What a client asks for that takes the proxy for the origin itself: its Host names the host, and the port is the one it came to. */
export function originAskedBy(head: RequestHead, port: number): HttpAsked {
  if (!/^\/[^#]*$/u.test(head.target)) {
    return { target: malformed('the request line has no path', originHelp) };
  }
  const [host = ''] = valuesOf(head.fields, 'host');
  const target = readAuthority(Buffer.from(host, 'latin1').toString(), httpPort);
  if (target.kind === 'malformed' || target.port === port) return askedFor(head, target, head.target);
  return { target: malformed('the Host field names another port than this one', originHelp, hostOf(target)) };
}

function askedFor(head: RequestHead, target: Target, path: string): HttpAsked {
  if (target.kind === 'malformed') return { target };
  const framing = framingOf(head);
  const problem = headProblem(head, path, target) ?? ('problem' in framing ? framing.problem : undefined);
  if (problem !== undefined || 'problem' in framing) {
    return { target: malformed(problem ?? '', help, hostOf(target)) };
  }
  return { target, request: requestOf(head, { target, path, framing }) };
}

/** Shows the host of an https URL; never its path, query or userinfo. */
function notAbsolute(text: string): Target {
  const authority = /^https:\/\/([^/?#@]+)(?:[/?#]|$)/iu.exec(text)?.[1] ?? '';
  const shown = readAuthority(authority, httpPort).kind === 'malformed' ? '' : authority;
  return malformed('the request line does not name one http URL', help, shown);
}

type Read = Exclude<Target, { kind: 'malformed' }>;

function headProblem(
  { method, fields, target: whole }: RequestHead,
  path: string,
  target: Read,
): string | undefined {
  // Its answer would be a tunnel (RFC 9110 §9.3.6), and its content nobody's to read.
  if (method === 'CONNECT') return 'CONNECT is not a request for a path';
  const hosts = valuesOf(fields, 'host');
  if (hosts.length !== 1) return 'there is not exactly one Host field';
  if (!isSameTarget(readAuthority(hosts[0] ?? '', httpPort), target))
    return 'the Host field names another host than the request line';
  if (!/^[\u0021-\u007e]*$/u.test(whole)) return 'there is a byte beyond ASCII in the path';
  if (path.includes('\\')) return 'there is a backslash in the path';
  if (listOf(fields, 'expect').some((member) => member !== '100-continue'))
    return 'the only expectation that is served is `100-continue`';
  return undefined;
}

interface Parts {
  readonly target: Read;
  readonly path: string;
  readonly framing: Framing;
}

function requestOf(head: RequestHead, { target, path, framing }: Parts): HttpRequest {
  const { method, fields, minor } = head;
  const connection = listOf(fields, 'connection');
  const upgrades = listOf(fields, 'upgrade');
  const asksUpgrade = connection.includes('upgrade') && upgrades.length === 1 && upgrades[0] === 'websocket';
  return {
    method,
    path: path.startsWith('/') ? path : `/${path}`,
    host: hostOf(target),
    fields: endToEnd(fields).flat(),
    framing,
    isUpgrade: asksUpgrade && minor === 1 && method === 'GET' && framing.kind === 'none',
    expectsContinue: minor === 1 && framing.kind !== 'none' && listOf(fields, 'expect').length > 0,
    minor,
    keepsAlive: minor === 1 && !connection.includes('close'),
  };
}

function hostOf(target: Read): string {
  const literal = target.kind === 'name' ? target.host : target.address.text;
  const host = literal.includes(':') ? `[${literal}]` : literal;
  return target.port === httpPort ? host : `${host}:${target.port}`;
}

/** What the head that is sent has for this request, about: enough that no path or field escapes the budget. */
export function headBytes({ method, path, host, fields }: HttpRequest): number {
  const inFields = fields.reduce((sum, part) => sum + part.length + 2, 0);
  return method.length + path.length + host.length + inFields;
}
