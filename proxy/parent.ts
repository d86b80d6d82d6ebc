// The way out through a parent proxy: each attempt of a dial becomes a CONNECT to the parent, which is told the judged address. Knows no policy and
// resolves nothing but the parent's own name. The credentials go into that one head and nowhere else.
import { isIPv6 } from 'node:net';
import { classifyAddress, parseAddress, type Address } from '../policy/index.ts';
import type { ParentProxy } from './config-types.ts';
import type { Conn, Connecting, Network } from './conn/index.ts';
import { dial, type DialOptions } from './dial.ts';
import type { Resolver } from './resolve.ts';

export interface ParentOptions {
  readonly parent: ParentProxy | null;
  /** The parent is told the name and resolves it again: what was judged is then not what is dialled. */
  readonly resolvesNames: boolean;
  readonly resolver: Pick<Resolver, 'resolve'>;
}

/** dial(), or dial() through the parent. Services on this machine's loopback are never the parent's to reach. */
export function dialer({ parent, resolvesNames, resolver }: ParentOptions): typeof dial {
  if (parent === null) return dial;
  return async (grant, options) => {
    if (grant.addresses.every((address) => classifyAddress(address).kind === 'loopback'))
      return await dial(grant, options);
    const at = await addressOf(parent, resolver, options.signal);
    const nameOf = resolvesNames ? () => grant.host : textOf;
    return await dial(grant, {
      ...options,
      network: throughParent({ ...parent, at, nameOf }, options.network),
    });
  };
}

async function addressOf(
  { host }: ParentProxy,
  resolver: ParentOptions['resolver'],
  signal: AbortSignal | undefined,
): Promise<Address> {
  const literal = parseAddress(host);
  if (literal !== undefined) return literal;
  const [first] = await resolver.resolve(host, signal ?? new AbortController().signal);
  if (first === undefined) throw new Error('bug: a resolver that answers with nothing');
  return first;
}

interface Hop {
  readonly at: Address;
  readonly port: number;
  readonly credentials: string | null;
  /** What the parent is told of an address. */
  readonly nameOf: (address: Address) => string;
}

function textOf({ text }: Address): string {
  return text;
}

/** Connects to the parent in place of each address, and asks it for that address. */
function throughParent(hop: Hop, network: DialOptions['network']): Pick<Network, 'connect'> {
  return {
    connect(address, port, on) {
      const stop = new AbortController();
      const authority = authorityOf(hop.nameOf(address), port);
      const giveUp = network.connect(hop.at, hop.port, {
        failed: (code) => on.failed(code),
        connected: (conn) => void ask(conn, { authority, hop, signal: stop.signal, on }),
      });
      return () => {
        stop.abort();
        giveUp();
      };
    },
  };
}

function authorityOf(name: string, port: number): string {
  return `${isIPv6(name) ? `[${name}]` : name}:${port}`;
}

interface Asking {
  readonly authority: string;
  readonly hop: Hop;
  /** The attempt was given up. */
  readonly signal: AbortSignal;
  readonly on: Connecting;
}

/** Longest head of the parent's answer. */
const maxAnswerBytes = 16_384;
/** The attempt itself has a shorter limit. */
const answerTimeoutMs = 60_000;

async function ask(conn: Conn, { authority, hop, signal, on }: Asking): Promise<void> {
  conn.write(connectHead(authority, hop.credentials));
  const look = createAnswerReader();
  const { found, bytes } = await conn.read({ look, timeoutMs: answerTimeoutMs, signal });
  // Given up after the answer came and before this went on: nobody would close it.
  if (typeof found === 'object' && found.status === 200 && !signal.aborted) {
    conn.unread(bytes.subarray(found.length));
    on.connected(conn);
    return;
  }
  conn.reset();
  if (!signal.aborted) on.failed(typeof found === 'object' ? codeOf(found.status) : codeOfUnmet[found]);
}

const codeOfUnmet = { gone: 'ECONNRESET', timeout: 'ETIMEDOUT', stopped: 'ECONNABORTED' } as const;

/** 504: the parent waited in vain, as we would have. The rest is told as it is, for the operational log. */
function codeOf(status: number): string {
  return status === 504 ? 'ETIMEDOUT' : `PARENT_${status}`;
}

function connectHead(authority: string, credentials: string | null): string {
  const basic =
    credentials === null ? [] : [`Proxy-Authorization: Basic ${Buffer.from(credentials).toString('base64')}`];
  return [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`, ...basic, '', ''].join('\r\n');
}

/** The status of an answer and where its head ends; status 0 for what is none. */
function createAnswerReader(): (piece: Buffer) => { status: number; length: number } | undefined {
  let bytes: Buffer = Buffer.alloc(0);
  return (piece) => {
    bytes = bytes.length === 0 ? piece : Buffer.concat([bytes, piece]);
    const end = bytes.indexOf('\r\n\r\n');
    if (end === -1) return bytes.length < maxAnswerBytes ? undefined : { status: 0, length: 0 };
    const [, status] = /^HTTP\/1\.[01] (\d{3})[ \r]/u.exec(bytes.toString('latin1', 0, end + 2)) ?? [];
    return { status: Number(status ?? 0), length: end + 4 };
  };
}
