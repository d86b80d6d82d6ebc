// Gathers what one turn of the event loop has to put on record, so that many clients at once cost one write. Nobody goes on before that.
import type { Audit } from './audit.ts';
import type { CloseEvent, DecisionEvent } from './index.ts';

interface Waiting {
  readonly event: DecisionEvent;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export interface Batch {
  /** Resolves when the line is with the kernel; rejects with AuditUnavailable, as do all decisions of the same turn. */
  decided(event: DecisionEvent): Promise<void>;
  closed(event: CloseEvent): void;
  /** Writes now what is gathered. */
  flush(): void;
}

export function createBatch(audit: Audit): Batch {
  let decisions: Waiting[] = [];
  let closes: CloseEvent[] = [];
  const flush = (): void => {
    const [decided, closed] = [decisions, closes];
    [decisions, closes] = [[], []];
    // A tunnel's decision is before its close, whatever else is in between.
    if (decided.length > 0) settle(audit, decided);
    if (closed.length > 0) audit.closed(...closed);
  };
  // A tick comes after all that was resolved before it: every client of one wake-up has been judged by then.
  const soon = (): void => {
    if (decisions.length + closes.length === 0) process.nextTick(flush);
  };
  return {
    decided(event) {
      soon();
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      decisions.push({ event, resolve, reject });
      return promise;
    },
    closed(event) {
      soon();
      closes.push(event);
    },
    flush,
  };
}

function settle(audit: Audit, decided: readonly Waiting[]): void {
  try {
    audit.decided(...decided.map(({ event }) => event));
    for (const { resolve } of decided) resolve();
  } catch (error) {
    for (const { reject } of decided) reject(error);
  }
}
