// One SOCKS5 client (RFC 1928) as the proxy sees it: its request, and its answers, which are one byte of reason; the audit has the rest.
// No authentication and the CONNECT command only: nothing that the client says is taken for who it is.
import type { FailureCode, Reason, Target } from '../../policy/index.ts';
import type { Conn } from '../conn/index.ts';
import type { Arrival, Inbound } from '../types.ts';
import { malformed } from './authority.ts';
import { parseRequest, replies, socksVersion } from './socks5-frames.ts';
import { readFrame, type Greeting, type ReadFrame } from './socks5-read.ts';

export interface SocksLimits {
  /** For the request, from now. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** The rest of a client that began with `greeting`; undefined when it left. Never rejects. */
export async function receiveSocks5(
  client: Conn,
  arrival: Arrival,
  greeting: Greeting,
  limits: SocksLimits,
): Promise<Inbound | undefined> {
  if (greeting.kind === 'gone') return undefined;
  const refused = greetingProblem(greeting);
  if (refused !== undefined) return inboundOf(client, arrival, refused);
  client.write(Buffer.of(socksVersion, noAuthentication));
  const read = await readFrame(client, parseRequest, limits);
  return read.kind === 'gone' ? undefined : inboundOf(client, arrival, askedBy(read));
}

/** A client that is turned away before its greeting was read. */
export function unreadSocks5(client: Conn, arrival: Arrival, target: Target): Inbound {
  return inboundOf(client, arrival, { target, refusal: Buffer.of(socksVersion, noAcceptableMethod) });
}

/** `refusal` is sent as it is, where the protocol has no reply for it or a better one than the reason's. */
interface Asked {
  readonly target: Target;
  readonly refusal?: Buffer;
}

const noAuthentication = 0x00;
const noAcceptableMethod = 0xff;
const help = 'send a SOCKS5 greeting that offers no authentication, then a CONNECT request';
const problems = {
  timeout: 'no complete SOCKS request came in time',
  stopped: 'the proxy stopped reading',
} as const;

type Came<Read> = Exclude<Read, { readonly kind: 'gone' }>;

/** Nothing but the choice of a method may be answered here. */
function greetingProblem(greeting: Came<Greeting>): Asked | undefined {
  if (greeting.kind === 'complete' && greeting.value.offersNone) return undefined;
  const problem = greeting.kind === 'complete' ? 'the client insists on authentication' : problemOf(greeting);
  return { target: malformed(problem, help), refusal: Buffer.of(socksVersion, noAcceptableMethod) };
}

function askedBy(read: Came<ReadFrame<Target>>): Asked {
  if (read.kind === 'complete') return { target: read.value };
  const target = malformed(problemOf(read), help);
  return read.kind === 'malformed' && read.reply !== undefined
    ? { target, refusal: reply(read.reply) }
    : { target };
}

function problemOf(read: Exclude<Came<ReadFrame<unknown>>, { kind: 'complete' }>): string {
  return read.kind === 'malformed' ? read.problem : problems[read.kind];
}

function inboundOf(
  client: Conn,
  { principal }: Pick<Arrival, 'principal'>,
  { target, refusal }: Asked,
): Inbound {
  let isAnswered = false;
  return {
    request: { principal, target, mode: 'socks5' },
    client,
    accept() {
      isAnswered = true;
      client.write(reply(replies.succeeded));
    },
    refuse({ reason }) {
      if (isAnswered) client.reset();
      else client.end(refusal ?? reply(replyTo[reason]));
      isAnswered = true;
    },
  };
}

/** RFC 1928 §6, with the bound address left out: it would tell an address of the proxy's. */
function reply(code: number): Buffer {
  return Buffer.of(socksVersion, code, 0, 1, 0, 0, 0, 0, 0, 0);
}

const { generalFailure, notAllowed, hostUnreachable, connectionRefused } = replies;

/** A no of the policy is 2; what may work later, or failed in the world, never is. */
const replyTo: { readonly [name in Reason | FailureCode]: number } = {
  rule_matched: generalFailure,
  service_matched: generalFailure,
  request_malformed: generalFailure,
  principal_unknown: notAllowed,
  rule_denied: notAllowed,
  no_rule_matched: notAllowed,
  port_not_allowed: notAllowed,
  protocol_not_allowed: notAllowed,
  host_is_address: notAllowed,
  address_not_public: notAllowed,
  server_name_missing: notAllowed,
  server_name_mismatch: notAllowed,
  ech_refused: notAllowed,
  not_tls: notAllowed,
  hello_malformed: notAllowed,
  hello_timeout: notAllowed,
  limit_tunnels: generalFailure,
  limit_rate: generalFailure,
  limit_bytes: notAllowed,
  policy_changed: notAllowed,
  fence_broken: notAllowed,
  draining: generalFailure,
  dns_failed: hostUnreachable,
  dns_timeout: hostUnreachable,
  dial_refused: connectionRefused,
  dial_timeout: hostUnreachable,
  upstream_reset: generalFailure,
  audit_unavailable: generalFailure,
  internal: generalFailure,
};
