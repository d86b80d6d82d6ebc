// What is asked of the policy and what it answers: types only. The answers are made in decide.ts.

import type { Reason, Verdict } from './reasons.ts';
import type { Target } from './target.ts';

/** The door the client came through; each carries certain protocols only. */
export type Mode = 'connect' | 'socks5' | 'http' | 'service' | 'transparent';

/** Who asks: bound by the kernel to an interface and a source address, never by what the client says. */
export interface Principal {
  readonly name: string;
}

/** One wish, normalised, before any look-up. */
export interface EgressRequest {
  readonly principal: Principal | undefined;
  readonly target: Target;
  readonly mode: Mode;
  /** The alias of the service, in mode `service` only. */
  readonly service?: string;
}

/** The answer of a gate. Everything in it may be logged. */
export interface Decision {
  readonly verdict: Verdict;
  readonly reason: Reason;
  /** Canonical host, address text, or for a malformed request what can be shown of it. */
  readonly host: string;
  readonly port: number | null;
  readonly principal: string | null;
  readonly mode: Mode;
  readonly rule: {
    readonly id: string;
    readonly host: string;
    readonly group: string | null;
    readonly reason: string;
  } | null;
  readonly protocol: 'tls' | 'http' | 'tcp' | null;
  readonly ech: 'deny' | 'allow';
  /** Bytes of one tunnel in each direction; null is unlimited. */
  readonly limits: { readonly upBytes: number | null; readonly downBytes: number | null };
  /** Digest of the policy that decided. */
  readonly policy: string;
  /** One clause for a person, such as which address and why. */
  readonly detail: string | null;
}

/** What the first bytes of a tunnel turned out to be. */
export type ServerNameFact =
  | { readonly kind: 'server_name'; readonly name: string; readonly ech: boolean }
  | { readonly kind: 'no_server_name'; readonly ech: boolean }
  | { readonly kind: 'not_tls' }
  | { readonly kind: 'malformed'; readonly problem: string }
  | { readonly kind: 'timeout' }
  | { readonly kind: 'closed' };
