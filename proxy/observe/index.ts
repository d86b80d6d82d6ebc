// The door for facts: what the proxy tells the world about each client, and who is told. It decides nothing about a client.
import type { FailureCode, Mode, Reason, Verdict } from '../../policy/index.ts';
import type { Stage } from '../errors.ts';
import type { DnsAnswer } from '../steer/answer.ts';
import type { DropClass } from './metric-table.ts';

export { type Audit, type AuditState, AuditUnavailable, createAudit } from './audit.ts';
export { mergeMetrics, type MetricsJson, withoutGauges } from './merge-metrics.ts';
export { metricsPage } from './metric-page.ts';
export {
  dropClasses,
  type DropClass,
  type FenceReport,
  type GateReport,
  type WorkerState,
  workerStates,
} from './metric-table.ts';
export { createMetrics, type Metrics, type PolicyFacts } from './metrics.ts';
export { createObserve } from './observe.ts';

/** One verdict of one gate. Written before the first packet goes to the destination. */
export interface DecisionEvent {
  readonly event: 'decision';
  /** ISO 8601, UTC, milliseconds. */
  readonly time: string;
  /** The run's name; null for a proxy that stands alone. */
  readonly run: string | null;
  /** Joins this line with the close line of the same client. */
  readonly tunnel: string;
  readonly principal: string | null;
  /** `address:port` of the client. */
  readonly peer: string;
  /** `address:port` the client came to. */
  readonly listener: string;
  readonly mode: Mode;
  /** Canonical host, address text, or the printable form of what could not be read. */
  readonly host: string;
  readonly port: number | null;
  readonly verdict: Verdict;
  readonly reason: Reason;
  readonly rule: string | null;
  readonly group: string | null;
  /** Digest of the policy that decided. */
  readonly policy: string;
  /** The judged addresses; empty before a look-up. */
  readonly addresses: readonly string[];
  readonly detail: string | null;
}

export type CloseCause =
  | 'refused'
  | 'failed'
  | 'both_ended'
  | 'idle'
  | 'limit_bytes'
  | 'severed'
  | 'client_error'
  | 'upstream_error'
  | 'client_gone'
  | 'worker_crashed';

/** How one client ended. Every accepted client has exactly one; those of a flood are counted instead of written, see flood.ts. */
export interface CloseEvent {
  readonly event: 'close';
  readonly time: string;
  readonly run: string | null;
  readonly tunnel: string;
  readonly principal: string | null;
  readonly peer: string;
  readonly listener: string;
  readonly mode: Mode;
  readonly host: string;
  readonly port: number | null;
  /** Null when the client left before a verdict. */
  readonly verdict: Verdict | null;
  readonly reason: Reason | FailureCode | null;
  readonly cause: CloseCause;
  /** The address that was dialled; null when none answered or none was tried. */
  readonly address: string | null;
  /** Payload bytes from the client to upstream. */
  readonly up: number;
  /** Payload bytes from upstream to the client. */
  readonly down: number;
  readonly ms: {
    readonly total: number;
    readonly resolve?: number;
    readonly dial?: number;
    readonly hello?: number;
  };
  readonly policy: string;
}

/** A name that the DNS stub denied. It is no client: nothing was opened, and there is no close. */
export interface NameEvent {
  readonly event: 'name';
  readonly time: string;
  readonly run: string | null;
  readonly principal: string;
  readonly peer: string;
  readonly listener: string;
  /** As far as it can be shown. */
  readonly host: string;
  readonly verdict: 'deny';
  readonly reason: Reason;
  readonly rule: string | null;
  readonly group: string | null;
  readonly policy: string;
  readonly detail: string | null;
}

/** A packet that the fence dropped, as the kernel told of it: so many a second of each class. `sallyport_fence_drops_total` counts them all. */
export interface DropEvent {
  readonly event: 'drop';
  readonly time: string;
  readonly run: string | null;
  /** Whose link it came from. */
  readonly principal: string;
  readonly class: DropClass;
  /** `tcp`, `udp`, ..., `ip-47`, or `ether-88b5` for a frame that is no IP. */
  readonly protocol: string;
  readonly source: string | null;
  readonly address: string | null;
  readonly port: number | null;
}

/** Everybody who wants to know. Only decided() can say no. */
export interface Observe {
  /** Resolves once it is on record; rejects with AuditUnavailable when it cannot be: then nothing may be sent to the destination. */
  decided(event: DecisionEvent): Promise<void>;
  /** Never throws: a line that cannot be written now is kept, up to a bound, and counted when it is lost. */
  closed(event: CloseEvent): void;
  /** Never throws; a name that was told a moment ago is not told again, and a flood of names is counted. */
  named(event: NameEvent): void;
  /** How the DNS stub ended a query. */
  answered(answer: DnsAnswer): void;
  stage(stage: Stage, seconds: number): void;
  /** Payload bytes that went across since the last call. One function for all tunnels, bound. */
  readonly crossed: (up: number, down: number) => void;
  tunnelOpened(): void;
  tunnelClosed(seconds: number): void;
  /** Puts on record at once what waits for the end of the turn. */
  flush(): void;
  /** This machine could not take a client: counted, and told in the operational log. */
  notAccepted(error: unknown): void;
  /** An assertion failed: counted, and its stack goes to the operational log. */
  bug(error: unknown, stage: Stage): void;
}
