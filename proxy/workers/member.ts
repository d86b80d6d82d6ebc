// One worker as its parent sees it: the process, what it is told, what it last said. Replaces nothing; fleet.ts does.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { PolicyImage } from '../../policy/index.ts';
import type { WorkerState } from '../observe/index.ts';
import { AskingEnd } from './channel.ts';
import type { Notes, Question, Questions, Snapshot, StartOrder } from './messages.ts';

/** How a process ended. */
export interface MemberEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface MemberParts {
  readonly order: Omit<StartOrder, 'boardFd' | 'auditFd' | 'parent'>;
  /** Descriptors of this process that the worker inherits; `audit` null: it opens its own. */
  readonly boardFd: number;
  readonly auditFd: number | null;
  readonly onBug: (bug: Notes['bug']) => void;
}

/** 0 to 3 are nothing, nothing, our stderr, the channel. */
const firstFd = 4;
const entry = join(import.meta.dirname, 'worker.ts');
const pieceBytes = 262_144;
/** A machine may be busy; a worker that is not there by then is none. */
const startMs = 30_000;
const enforceMs = 10_000;

export class Member {
  readonly worker: number;
  readonly startedAt = performance.now();
  /** When it began to serve, on the clock of `startedAt`. */
  readyAt: number | null = null;
  state: WorkerState = 'starting';
  /** What it last told of itself. */
  snapshot: Snapshot | null = null;
  /** Rounds of the watch in which its event loop stood still, and how far it was. */
  watch = { beats: 0, missed: 0 };
  /** It was told to end. */
  isLeaving = false;
  /** Why its end was asked for, if it was. */
  problem: string | null = null;
  readonly ended: Promise<MemberEnd>;
  readonly #child: ChildProcess;
  readonly #end: AskingEnd;
  readonly #order: StartOrder;
  #sending: Promise<unknown> = Promise.resolve();

  constructor({ order, boardFd, auditFd, onBug }: MemberParts) {
    const { places, worker } = order;
    const fds = [boardFd, auditFd ?? 'ignore', ...places.map(({ fd }) => fd ?? 'ignore')] as const;
    this.worker = worker;
    this.#child = spawn(process.execPath, [...process.execArgv, entry], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc', ...fds],
      serialization: 'advanced',
    });
    this.#order = {
      ...order,
      parent: process.pid,
      boardFd: firstFd,
      auditFd: auditFd === null ? null : firstFd + 1,
      places: places.map((place, at) => ({ ...place, fd: firstFd + 2 + at })),
    };
    this.ended = endOf(this.#child);
    this.#end = new AskingEnd(this.#child, {
      snapshot: (snapshot) => {
        this.snapshot = snapshot;
      },
      bug: onBug,
    });
    void this.ended.then(() => this.#end.close());
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Whether it can be asked. */
  get isThere(): boolean {
    return this.state !== 'stopped';
  }

  /** Settles when it serves clients under the policy of `image`. */
  async start({ text }: PolicyImage): Promise<void> {
    await this.#send(text, startMs, async () => await this.ask('start', this.#order, startMs));
    this.readyAt = performance.now();
    if (this.state === 'starting') this.state = 'ready';
  }

  /** Settles when it has severed what the policy of `text` does not admit: how many. */
  async enforce({ text, digest, loopback }: PolicyImage): Promise<number> {
    return await this.#send(
      text,
      enforceMs,
      async () => await this.ask('enforce', { digest, loopback }, enforceMs),
    );
  }

  /** Its state now, or what it last said when it does not answer within `ms`. */
  async look(what: 'snapshot' | 'probe', ms: number): Promise<Snapshot | null> {
    try {
      this.snapshot = await this.ask(what, null, ms);
    } catch {
      // It is gone or stands still: the watch sees to that.
    }
    return this.snapshot;
  }

  async ask<What extends Question>(
    what: What,
    value: Questions[What]['ask'],
    ms: number,
  ): Promise<Questions[What]['answer']> {
    return await this.#end.ask(what, value, ms);
  }

  kill(problem: string): void {
    this.problem ??= problem;
    this.#child.kill('SIGKILL');
  }

  /** Each step within `ms`. INVARIANT: the pieces of two policies never mix. */
  #send<Answer>(text: Uint8Array, ms: number, then: () => Promise<Answer>): Promise<Answer> {
    const sent = this.#sending.then(async () => {
      for (let at = 0; at < text.length; at += pieceBytes)
        await this.ask('piece', text.subarray(at, at + pieceBytes), ms);
      return await then();
    });
    this.#sending = sent.catch(() => {});
    return sent;
  }
}

/** A process that could not be started has ended. */
function endOf(child: ChildProcess): Promise<MemberEnd> {
  const { promise, resolve } = Promise.withResolvers<MemberEnd>();
  child.once('exit', (code, signal) => resolve({ code, signal }));
  child.on('error', () => {
    if (child.pid === undefined) resolve({ code: null, signal: null });
  });
  return promise;
}
