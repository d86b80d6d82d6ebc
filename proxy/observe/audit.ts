// The required record: one JSON line per decision and per close, by pino. A decision that cannot be written does not happen.
import { pino } from 'pino';
import { closeRecord, decisionRecord, dropRecord, nameRecord } from './audit-line.ts';
import { type AuditState, openSink, type Sink } from './audit-sink.ts';
import type { CloseEvent, DecisionEvent, DropEvent, NameEvent } from './index.ts';

export { type AuditState, AuditUnavailable } from './audit-sink.ts';

export interface Audit {
  /** The open file, for a process that is to write to it as well; null while there is none. */
  readonly fd: number | null;
  readonly state: AuditState;
  /** On return the lines are with the kernel. Throws AuditUnavailable. */
  decided(...events: readonly DecisionEvent[]): void;
  /** Never throws; a line that must wait is kept up to 1 MiB, then counted in `state.dropped`. */
  closed(...events: readonly CloseEvent[]): void;
  /** As `closed`. */
  named(event: NameEvent): void;
  /** As `closed`. */
  dropped(...events: readonly DropEvent[]): void;
  /** True when the audit can be written as far as one can know without writing an event. */
  probe(): boolean;
  /** Opens the file by its name again, for log rotation. */
  reopen(): void;
  close(): void;
}

const retryMs = 1000;
/** Version of the line's shape: audit.schema.json describes this one. */
const shape = 1;

/**
 * Opens the audit at `target`: a path, or `-` for stdout; or takes `inherited`, a descriptor that is open on it. Throws
 * AuditUnavailable. The caller closes it.
 */
export function createAudit(target: string, inherited: number | null = null): Audit {
  const sink = openSink(target, inherited);
  const lineOf = createFormatter();
  const retry = setInterval(() => retryKept(sink), retryMs).unref();
  return {
    get fd() {
      return sink.fd;
    },
    get state() {
      return sink.state;
    },
    decided: (...events) =>
      sink.require(events.map((event) => lineOf(decisionRecord(event))).join(''), events.length),
    closed: (...events) =>
      sink.keep(events.map((event) => lineOf(closeRecord(event))).join(''), events.length),
    named: (event) => sink.keep(lineOf(nameRecord(event)), 1),
    dropped: (...events) =>
      sink.keep(events.map((event) => lineOf(dropRecord(event))).join(''), events.length),
    probe: () => sink.flush(),
    reopen: () => sink.reopen(),
    close() {
      clearInterval(retry);
      sink.close();
    },
  };
}

function retryKept(sink: Sink): void {
  if (!sink.state.ok) sink.flush();
}

/** pino as a formatter of lines. Its `level` slot carries the version of the line's shape: nothing here has a level. */
function createFormatter(): (record: Record<string, unknown>) => string {
  const formatters = { level: () => ({ v: shape }) };
  let line = '';
  const write = (text: string): void => {
    line = text;
  };
  const logger = pino({ base: null, timestamp: false, formatters }, { write });
  return (record) => {
    logger.info(record);
    return line;
  };
}
