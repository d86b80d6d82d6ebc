// Keeps as many workers as were asked for: starts them, watches their event loops, replaces who ended. Knows no metrics and no admin.
import type { Policy, PolicyImage } from '../../policy/index.ts';
import type { ProxySettings } from '../config-types.ts';
import type { Audit, WorkerState } from '../observe/index.ts';
import { workerStates } from '../observe/index.ts';
import type { Place } from '../server.ts';
import { within } from '../within.ts';
import type { Board } from './board.ts';
import { bury } from './burial.ts';
import { Member, type MemberEnd } from './member.ts';
import type { Notes, Snapshot } from './messages.ts';

/** The workers do not come up. */
export class WorkersFailed extends Error {
  override readonly name = 'WorkersFailed';
  readonly help = 'the lines above are of the workers; with `--workers 1` the proxy is one process';
}

/** What happened to a worker, for the operational log. */
export interface WorkerNews {
  readonly worker: number;
  readonly process: number;
  readonly event: 'ready' | 'ended' | 'silent' | 'awake';
  /** Why it ended or was ended. */
  readonly problem?: string;
  /** Tunnels it had, whose close lines were written for it. */
  readonly tunnels?: number;
}

export interface FleetParts {
  readonly settings: ProxySettings;
  readonly board: Board;
  readonly boardFd: number;
  readonly audit: Audit;
  readonly policy: () => Policy;
  readonly placesOf: (worker: number) => readonly Place[];
  readonly onBug: (bug: Notes['bug']) => void;
  readonly onNews: (news: WorkerNews) => void;
  /** What a worker had counted when it ended. */
  readonly onLast: (snapshot: Snapshot) => void;
  /** No worker stays up: the proxy is to end. */
  readonly onFailed: (error: WorkersFailed) => void;
}

const watchMs = 500;
/** Rounds without a beat until it is told, and until it is replaced: 2 s and 10 s. */
const silentAfter = 4;
const killAfter = 20;
/** One that ends within this after it began to serve counts as a quick failure. */
const steadyMs = 1000;
const maxQuickFailures = 5;
const firstDelayMs = 100;
const maxDelayMs = 5000;
const lastGaspMs = 100;
/** For the last words after a drain's own limit. */
const graceMs = 2000;

export class Fleet {
  readonly #parts: FleetParts;
  readonly #members: Member[] = [];
  readonly #quickFailures: number[] = [];
  readonly #started = Promise.withResolvers<void>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #isEnding = false;
  #isStarted = false;
  restarts = 0;

  constructor(parts: FleetParts) {
    this.#parts = parts;
  }

  /** Who can be asked. */
  get present(): readonly Member[] {
    return this.#members.filter(({ isThere }) => isThere);
  }

  /** Who has answers. */
  get serving(): readonly Member[] {
    return this.present.filter(({ readyAt }) => readyAt !== null);
  }

  get states(): Readonly<Record<WorkerState, number>> {
    const count = (state: WorkerState): number => this.#members.filter((one) => one.state === state).length;
    const [starting = 0, ready = 0, silent = 0, stopped = 0] = workerStates.map(count);
    return { starting, ready, silent, stopped };
  }

  /** Settles when every worker serves. Throws WorkersFailed. */
  async start(): Promise<void> {
    for (let worker = 0; worker < this.#parts.board.shape.workers; worker += 1) this.#launch(worker);
    const timer = setInterval(() => this.#watch(), watchMs).unref();
    this.#timers.add(timer);
    await this.#started.promise;
  }

  /** Settles when every worker has severed what `policy` does not admit, or is gone: how many were severed. */
  async enforce(policy: Policy): Promise<number> {
    const severed = await Promise.all(
      this.present.map(async (member) => {
        try {
          return await member.enforce(policy.image);
        } catch (error) {
          // Fail closed: whoever replaces it has the new policy.
          await end(member, `the policy was not enforced: ${messageOf(error)}`);
          return 0;
        }
      }),
    );
    return severed.reduce((total, one) => total + one, 0);
  }

  /** Nobody new; who has a tunnel may finish within `timeoutMs`. Settles when every worker has ended. */
  async drain(timeoutMs: number): Promise<void> {
    this.#isEnding = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all(
      this.present.map(async (member) => {
        member.isLeaving = true;
        try {
          member.snapshot = await member.ask('drain', { timeoutMs }, timeoutMs + graceMs);
        } catch (error) {
          member.isLeaving = false;
          await end(member, `it did not drain: ${messageOf(error)}`);
        }
        await end(member, 'it did not end after its drain', graceMs);
      }),
    );
  }

  #launch(worker: number): void {
    const { settings, board, boardFd, audit, policy, placesOf, onBug } = this.#parts;
    // So that a worker gets the file of this name as it is now.
    audit.probe();
    const { image } = policy();
    const { digest, loopback } = image;
    const order = {
      settings,
      worker,
      shape: board.shape,
      places: placesOf(worker),
      policy: { digest, loopback },
    };
    const member = new Member({ order, boardFd, auditFd: audit.fd, onBug });
    this.#members[worker] = member;
    void member.ended.then((how) => this.#ended(member, how));
    void this.#settle(member, image);
  }

  async #settle(member: Member, image: PolicyImage): Promise<void> {
    const { onNews } = this.#parts;
    const { worker, pid } = member;
    try {
      await member.start(image);
      onNews({ worker, process: pid, event: 'ready' });
      this.#noteReady();
    } catch (error) {
      await end(member, `it did not start: ${messageOf(error)}`);
    }
  }

  #noteReady(): void {
    if (this.states.ready < this.#parts.board.shape.workers) return;
    this.#isStarted = true;
    this.#started.resolve();
  }

  #ended(member: Member, { code, signal }: MemberEnd): void {
    const { worker, pid, snapshot } = member;
    const { onLast, onNews } = this.#parts;
    // In one step with what it had counted: nobody sees it twice, or not at all.
    member.state = 'stopped';
    const tunnels = bury(worker, { ...this.#parts, clock: Date.now });
    if (snapshot !== null) onLast(snapshot);
    if (member.isLeaving && tunnels === 0) return;
    const problem =
      member.problem ?? (signal === null ? `it exited with ${code}` : `it was killed by ${signal}`);
    onNews({ worker, process: pid, event: 'ended', problem, tunnels });
    if (!this.#isEnding) this.#replace(member, problem);
  }

  #replace({ worker, readyAt }: Member, problem: string): void {
    const isQuick = readyAt === null || performance.now() - readyAt < steadyMs;
    const failures = isQuick ? (this.#quickFailures[worker] ?? 0) + 1 : 0;
    this.#quickFailures[worker] = failures;
    this.restarts += 1;
    if (failures >= maxQuickFailures && this.states.ready === 0) {
      this.#fail(new WorkersFailed(`worker ${worker} failed ${failures} times in a row: ${problem}`));
      return;
    }
    const delay = failures === 0 ? 0 : Math.min(maxDelayMs, firstDelayMs * 2 ** (failures - 1));
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#launch(worker);
    }, delay);
    this.#timers.add(timer);
  }

  #fail(error: WorkersFailed): void {
    this.#isEnding = true;
    if (this.#isStarted) this.#parts.onFailed(error);
    else this.#started.reject(error);
  }

  /** Counted in rounds of our own, not in time: when this process stood still itself, nobody has missed more than one. */
  #watch(): void {
    const { board, onNews } = this.#parts;
    for (const member of this.present) {
      if (member.readyAt === null) continue;
      const { worker, pid, watch } = member;
      const beats = board.addon.beats(board.handle, worker);
      const missed = beats === watch.beats ? watch.missed + 1 : 0;
      member.watch = { beats, missed };
      if (missed === silentAfter) {
        member.state = 'silent';
        onNews({ worker, process: pid, event: 'silent' });
      } else if (missed === 0 && member.state === 'silent') {
        member.state = 'ready';
        onNews({ worker, process: pid, event: 'awake' });
      }
      if (missed === killAfter)
        member.kill(`its event loop stood still for ${(killAfter * watchMs) / 1000} s`);
    }
  }
}

/** One that is ending by itself, as a broken channel may mean, says by its end why. */
async function end(member: Member, problem: string, patienceMs: number = lastGaspMs): Promise<void> {
  if (!(await within(patienceMs, member.ended))) member.kill(problem);
  await member.ended;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
