// The relay contract: two open connections go in, one end comes out. Knows nothing of policy: by now the answer was yes.
import type { Reason } from '../../policy/index.ts';
import type { Conn } from '../conn/index.ts';

/** One tunnel to carry. What a connection holds goes to the other first, and counts. From open() on the relay owns both and closes them. */
export interface RelayRequest {
  readonly client: Conn;
  readonly upstream: Conn;
  /** Bytes that have crossed already (the hello): they count in every total and budget, and are not told to `onBytes`. Default none. */
  readonly sent?: { readonly up: number; readonly down: number };
  /** Longest silence in both directions at once, in ms. */
  readonly idleTimeoutMs: number;
  /** Byte budget client to upstream; null means none. One byte more ends the tunnel with `limit_bytes`. */
  readonly maxUpBytes: number | null;
  /** Byte budget upstream to client; null means none. */
  readonly maxDownBytes: number | null;
  /** Deltas since the last call, for live metrics. Must not throw. */
  readonly onBytes?: (up: number, down: number) => void;
}

/** Why a tunnel ended. `client_error` and `upstream_error` say which side broke first; the other side was reset. */
export type RelayCause =
  | 'both_ended'
  | 'idle'
  | 'limit_bytes'
  | 'severed'
  | 'client_error'
  | 'upstream_error';

/** How it ended. Bytes are those taken from one side and handed to the other, never more than the budget. */
export interface RelayEnd {
  readonly cause: RelayCause;
  readonly upBytes: number;
  readonly downBytes: number;
  /** Present only with cause `severed`. */
  readonly severReason?: Reason;
}

export interface RelayHandle {
  /** Settles once, after both descriptors are closed. Never rejects. */
  readonly done: Promise<RelayEnd>;
  /** Resets both sides now. The first end wins; safe to call at any time. */
  sever(reason: Reason): void;
  bytes(): { up: number; down: number };
}

/** A way to carry bytes. Every relay passes test/proxy/relay/conformance.ts. */
export interface Relay {
  readonly name: 'splice' | 'javascript';
  /** Never throws; a connection that is gone already ends as `client_error` or `upstream_error`. */
  open(request: RelayRequest): RelayHandle;
  /** Gives back what the relay holds besides its tunnels, threads for one. Called when no tunnel is left. */
  close(): void;
}
