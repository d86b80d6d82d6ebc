// Joins the audit and the metrics into the one Observe that a tunnel sees. Counts a decision only when it is on record.
import { type FailureCode, failureCodes } from '../../policy/index.ts';
import type { Stage } from '../errors.ts';
import type { Audit } from './audit.ts';
import { createBatch } from './batch.ts';
import { createFloodGate } from './flood.ts';
import type { Observe } from './index.ts';
import type { Metrics } from './metrics.ts';

export interface ObserveParts {
  readonly audit: Audit;
  readonly metrics: Metrics;
  /** Where a bug goes with its stack, and at stage `accept` what the machine could not do: the operational log. */
  readonly onBug: (error: unknown, stage: Stage) => void;
  /** ms on a clock that does not jump; default the machine's. */
  readonly now?: () => number;
}

export function createObserve({ audit, metrics, onBug, now }: ObserveParts): Observe {
  const flood = createFloodGate(now ?? (() => performance.now()), (kind) => metrics.unrecorded(kind));
  const batch = createBatch(audit);
  return {
    async decided(event) {
      const told = flood.decision(event);
      if (told === undefined) return;
      await batch.decided(told);
      metrics.decision(event.reason, event.mode);
    },
    closed(event) {
      if (flood.closes(event)) batch.closed(event);
      if (isFailureCode(event.reason)) metrics.failure(event.reason);
    },
    named(event) {
      const told = flood.name(event);
      if (told !== undefined) audit.named(told);
    },
    answered: (answer) => metrics.answered(answer),
    flush: () => batch.flush(),
    stage: (stage, seconds) => metrics.stage(stage, seconds),
    crossed(up, down) {
      if (up > 0) metrics.bytes('up', up);
      if (down > 0) metrics.bytes('down', down);
    },
    tunnelOpened: () => metrics.tunnelOpened(),
    tunnelClosed: (seconds) => metrics.tunnelClosed(seconds),
    notAccepted(error) {
      metrics.acceptFailed();
      onBug(error, 'accept');
    },
    bug(error, stage) {
      metrics.bug(stage);
      onBug(error, stage);
    },
  };
}

const codes: ReadonlySet<string> = new Set(failureCodes.map((row) => row.name));

function isFailureCode(reason: string | null): reason is FailureCode {
  return reason !== null && codes.has(reason);
}
