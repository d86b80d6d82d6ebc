// What parent and workers say to each other: plain data, and each question has one answer. No code but the lists.
import type { PolicyImage } from '../../policy/index.ts';
import type { ProxySettings } from '../config-types.ts';
import type { AuditState, MetricsJson } from '../observe/index.ts';
import type { Place } from '../server.ts';
import type { TunnelInfo } from '../tunnel-table.ts';
import type { BoardShape } from './board.ts';

/** What goes with a policy's text. */
export type PolicyHead = Pick<PolicyImage, 'digest' | 'loopback'>;

/** All that a worker is told at its start, after the text of the policy. Descriptors are those of the worker; no audit: it opens its own. */
export interface StartOrder {
  readonly settings: ProxySettings;
  /** Its number, from 0: whoever replaces it has the same. */
  readonly worker: number;
  readonly parent: number;
  readonly shape: BoardShape;
  readonly boardFd: number;
  readonly auditFd: number | null;
  /** Each with a descriptor that listens already. */
  readonly places: readonly Place[];
  readonly policy: PolicyHead;
}

/** What a worker tells of itself, about once a second and when asked. */
export interface Snapshot {
  readonly metrics: MetricsJson;
  readonly audit: AuditState;
}

/** Each question with its answer. */
export interface Questions {
  /** A part of a policy's text; `enforce` and `start` take what was collected. */
  readonly piece: { ask: Uint8Array; answer: null };
  readonly start: { ask: StartOrder; answer: null };
  /** Answered when what the policy does not admit is severed: how many there were. */
  readonly enforce: { ask: PolicyHead; answer: number };
  readonly snapshot: { ask: null; answer: Snapshot };
  /** Cuts every tunnel: how many there were. */
  readonly cut: { ask: { readonly reason: 'fence_broken' }; answer: number };
  readonly tunnels: { ask: null; answer: readonly TunnelInfo[] };
  /** Tries whether the audit can be written. */
  readonly probe: { ask: null; answer: Snapshot };
  /** Opens the audit by its name again. */
  readonly reopen: { ask: null; answer: null };
  /** Answered when everybody is gone; the worker ends then. */
  readonly drain: { ask: { readonly timeoutMs: number }; answer: Snapshot };
}

export type Question = keyof Questions;

/** What a worker says unasked. */
export interface Notes {
  readonly snapshot: Snapshot;
  readonly bug: { readonly error: unknown; readonly stage: string };
}
