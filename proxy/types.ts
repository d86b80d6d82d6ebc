// The types at the seams of the data plane: what a door hands over, what a client is told, and what open() needs. No code.
import type { Address, EgressRequest, FailureCode, Grant, Mode, Principal, Reason } from '../policy/index.ts';
import type { ProxySettings } from './config.ts';
import type { Conn, Network } from './conn/index.ts';
import type { Dialled, DialOptions } from './dial.ts';
import type { Limits } from './limits.ts';
import type { Observe } from './observe/index.ts';
import type { PolicyStore } from './policy-store.ts';
import type { Relay, RelayHandle, RelayRequest } from './relay/index.ts';
import type { Resolver } from './resolve.ts';
import type { TunnelTable } from './tunnel-table.ts';

/** One client asking for one destination, whatever the wire protocol was. */
export interface Inbound {
  readonly request: EgressRequest;
  /** What came right behind the request is held by it; it belongs to the tunnel. */
  readonly client: Conn;
  /** A limit of the door itself that turns this client away before it was read. */
  readonly turnedAway?: Reason;
  /** Tells the client, in its protocol, that the tunnel is open. */
  accept(): void;
  /** Before accept: answers. After accept: resets. Safe to call twice. */
  refuse(why: Refusal): void;
  /** Present when the client asks for one exchange and not for a tunnel: carries it, in place of the relay. */
  readonly exchange?: (request: ExchangeRequest) => Exchange;
  /** What the same client may ask next, once this is over; undefined when its connection ends here. */
  readonly next?: () => Door | undefined;
}

/** One exchange to carry over `upstream`, which it closes. `relay` takes over when it becomes a tunnel. */
export interface ExchangeRequest extends Omit<RelayRequest, 'client'> {
  readonly relay: Relay;
}

/**
 * Like a relayed tunnel, but `done` may reject: with ProxyError when upstream failed before the client was told anything, and with
 * RequestFault when the rest of the request turned out to be malformed.
 */
export type Exchange = RelayHandle;

/** What a client is told when the answer is no, or when the world failed. Less than the audit is told. */
export interface Refusal {
  readonly status: number;
  readonly statusText: string;
  readonly reason: Reason | FailureCode;
  readonly body: RefusalBody;
  readonly retryAfterS?: number;
}

/** The JSON body, made for an agent to read. Holds canonical text only, nothing that a client wrote freely. */
export interface RefusalBody {
  readonly reason: Reason | FailureCode;
  readonly sentence: string;
  readonly host: string;
  readonly port: number | null;
  /** Id of the rule that decided, if one did and hints are on. */
  readonly rule?: string;
  /** What is wrong with a malformed request. */
  readonly detail?: string;
  readonly hint?: string;
  readonly didYouMean?: string;
  readonly howToRequest?: string;
  readonly retry: 'none' | 'transient';
  /** Digest of the policy that decided. */
  readonly policy: string;
  readonly run: string | null;
  readonly note: string;
}

/** Where one client came in. Both ends as `address:port`, from the kernel, never from the client's bytes. */
export interface Arrival {
  readonly peer: string;
  readonly listener: string;
  readonly principal: Principal | undefined;
  /** Aborted when the client is gone or the tunnel is severed. */
  readonly signal: AbortSignal;
}

/** A way in: reads what one client wants. Literal list in listeners/index.ts. */
export interface Door {
  readonly mode: Mode;
  /** For a client that was served before on the same connection. */
  readonly isAgain?: boolean;
  /** Undefined when the client left without asking. Never rejects for anything a client does. */
  receive(client: Conn, arrival: Arrival): Promise<Inbound | undefined>;
}

/** Everything a tunnel needs from the rest of the proxy. One per proxy; tests build their own. */
export interface Deps {
  readonly settings: ProxySettings;
  readonly policyStore: Pick<PolicyStore, 'current'>;
  readonly resolver: Resolver;
  /** Tunnels, from the request on. */
  readonly limits: Limits;
  /** Clients that have not asked yet: bounds them per principal, so that one cannot starve another by asking slowly. */
  readonly waiting: Limits;
  /** Clients that were told no and may still read it: beyond them nobody is waited for. */
  readonly lingering: Limits;
  readonly network: Network;
  readonly relay: Relay;
  readonly table: TunnelTable;
  readonly observers: Observe;
  /** Opens the way to a judged address. Takes a Grant and nothing else that names a destination. */
  readonly dial: (grant: Grant, options: DialOptions) => Promise<Dialled>;
  /** Addresses of this machine's own interfaces, now. */
  readonly ownAddresses: () => readonly Address[];
  /** ms since 1970. */
  readonly clock: () => number;
  /** True once the proxy is going away: nobody new gets a tunnel. */
  readonly isDraining: () => boolean;
}
