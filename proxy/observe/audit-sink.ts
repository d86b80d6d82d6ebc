// Lines on their way to the audit file: required ones go now or throw, kept ones may wait, in order and up to a bound.
// Knows lines, not events.
import { type AuditFile, errorCode, openAuditFile } from './audit-file.ts';

/** The audit could not take a line that must be written. The client is refused with `audit_unavailable`. */
export class AuditUnavailable extends Error {
  readonly code = 'audit_unavailable';
  readonly help: string;

  constructor(target: string, problem: string, cause?: unknown) {
    super(`audit \`${target}\` cannot be written: ${problem}`, { cause });
    this.name = 'AuditUnavailable';
    this.help =
      'free its disk, restore its folder or its reader; nobody is let out until a line can be written';
  }
}

export interface AuditState {
  readonly ok: boolean;
  /** Why the last attempt failed, as the system's code; null while ok. */
  readonly problem: string | null;
  /** Lines waiting for the file to work again. */
  readonly kept: number;
  /** Lines lost for ever. */
  readonly dropped: number;
}

export interface Sink {
  /** The open file, for a process that is to write to it as well. */
  readonly fd: number | null;
  readonly state: AuditState;
  /** Writes what is kept, then `text`, which is so many lines, whole. Throws AuditUnavailable. */
  require(text: string, lines: number): void;
  /** Writes `text`, which is so many lines, now or later; counts them as dropped when too much is waiting. Never throws. */
  keep(text: string, lines: number): void;
  /** Tries to write what is kept; true when the file works. */
  flush(): boolean;
  reopen(): void;
  /** One last flush; what then remains is dropped. */
  close(): void;
}

interface Waiting {
  readonly text: Buffer;
  readonly lines: number;
  written: number;
}

const maxKeptBytes = 1_048_576;
// Waiting stops the whole proxy, so it is short, and only once: a reader that stalls gets no second wait until it has read.
const fullPipeWaitMs = 100;

/** Opens `target` (a path or `-`), or takes `inherited`, open on it already. Throws AuditUnavailable when it cannot be opened. */
export function openSink(target: string, inherited: number | null = null): Sink {
  const sink = new FileSink(target, inherited);
  sink.flush();
  if (!sink.state.ok) throw new AuditUnavailable(target, sink.state.problem ?? 'unknown');
  return sink;
}

class FileSink implements Sink {
  readonly #target: string;
  readonly #inherited: number | null;
  readonly #waiting: Waiting[] = [];
  #file: AuditFile | null = null;
  #keptBytes = 0;
  #dropped = 0;
  #problem: string | null = null;
  #closed = false;

  constructor(target: string, inherited: number | null) {
    this.#target = target;
    this.#inherited = inherited;
  }

  get fd(): number | null {
    return this.#file?.fd ?? null;
  }

  get state(): AuditState {
    const kept = countLines(this.#waiting);
    return { ok: this.#problem === null, problem: this.#problem, kept, dropped: this.#dropped };
  }

  require(text: string, lines: number): void {
    const own: Waiting = { text: Buffer.from(text), lines, written: 0 };
    if (this.flush() && this.#attempt(() => this.#writeOut(own))) return;
    // A torn line is finished later, so that every line of the file stays whole. Its close line tells that it was refused.
    if (own.written > 0) this.#push(own);
    throw new AuditUnavailable(this.#target, this.#problem ?? 'unknown');
  }

  keep(text: string, lines: number): void {
    const own: Waiting = { text: Buffer.from(text), lines, written: 0 };
    if (this.#closed || this.#keptBytes + own.text.length > maxKeptBytes) this.#dropped += lines;
    else this.#push(own);
    this.flush();
  }

  flush(): boolean {
    return this.#attempt(() => {
      this.#ensure();
      for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
        this.#writeOut(next);
        this.#waiting.shift();
        this.#keptBytes -= next.text.length;
      }
    });
  }

  reopen(): void {
    this.#file?.reopen();
    this.flush();
  }

  close(): void {
    if (this.#closed) return;
    this.flush();
    this.#closed = true;
    this.#dropped += countLines(this.#waiting.splice(0));
    this.#file?.close();
  }

  #push(own: Waiting): void {
    this.#waiting.push(own);
    this.#keptBytes += own.text.length;
  }

  #ensure(): void {
    if (this.#closed) throw new Error('closed');
    this.#file ??= openAuditFile(this.#target, this.#inherited);
    const torn = this.#waiting[0];
    if (this.#file.ensure() && torn !== undefined) torn.written = 0;
  }

  #writeOut(own: Waiting): void {
    const deadline = this.#problem === null ? performance.now() + fullPipeWaitMs : 0;
    for (;;) {
      own.written += this.#file?.write(own.text, own.written) ?? 0;
      if (own.written === own.text.length) return;
      if (performance.now() >= deadline) throw new Error('its reader does not read');
      sleep(1);
    }
  }

  #attempt(work: () => void): boolean {
    try {
      work();
      this.#problem = null;
    } catch (error) {
      this.#problem = errorCode(error);
    }
    return this.#problem === null;
  }
}

function countLines(waiting: readonly Waiting[]): number {
  return waiting.reduce((total, { lines }) => total + lines, 0);
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
