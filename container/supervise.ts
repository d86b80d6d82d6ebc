// Waits for the first thing that ends a command: itself, its time limit, or a signal to the runner. Then sees that it really ends.
import type { RunningCommand } from './backends/index.ts';
import { exitCodeOf } from './refusal.ts';
import type { Ending, Voice } from './report.ts';

/** Between TERM and KILL. */
const graceMs = 2000;

/** What can end a command besides itself. */
export interface Limits {
  readonly timeoutMs: number | null;
  /** Aborted with the signal's exit status (130, 143) as its reason when the runner is told to stop. */
  readonly stop: AbortSignal;
}

/** How the run ended. */
export interface Outcome {
  readonly ended: Ending;
  readonly status: number;
  readonly message: string | null;
}

/** Waits for the end; nothing of the command is left when it resolves. */
export async function supervise(command: RunningCommand, limits: Limits, voice: Voice): Promise<Outcome> {
  const cancel = new AbortController();
  // The cause is settled before anything is done about it: a command that is being ended also ends by itself.
  const cause = await Promise.race([
    command.ended.then(({ status }): Outcome => ({ ended: 'exited', status, message: null })),
    timedOut(limits.timeoutMs, cancel.signal),
    interrupted(limits.stop, cancel.signal),
  ]).finally(() => cancel.abort());
  if (cause.ended === 'timeout' || cause.ended === 'interrupted') {
    voice.tell({ event: cause.ended, message: cause.message ?? '' });
    await command.terminate(graceMs);
  }
  return cause;
}

async function timedOut(timeoutMs: number | null, cancel: AbortSignal): Promise<Outcome> {
  await new Promise<void>((resolve) => {
    if (timeoutMs === null) return;
    const timer = setLongTimeout(resolve, timeoutMs);
    cancel.addEventListener('abort', () => clearInterval(timer), { once: true });
  });
  const message = `timeout: the command ran longer than ${(timeoutMs ?? 0) / 1000} s and was ended`;
  return { ended: 'timeout', status: exitCodeOf('timeout'), message };
}

/** One timer holds at most 24 days (2^31 ms); this one asks the clock. */
function setLongTimeout(done: () => void, ms: number): NodeJS.Timeout {
  const deadline = performance.now() + ms;
  return setInterval(
    () => {
      if (performance.now() >= deadline) done();
    },
    Math.min(ms, 100),
  );
}

async function interrupted(stop: AbortSignal, cancel: AbortSignal): Promise<Outcome> {
  await new Promise<void>((resolve) => {
    if (stop.aborted) resolve();
    stop.addEventListener('abort', () => resolve(), { once: true, signal: cancel });
  });
  return { ended: 'interrupted', status: stopStatus(stop), message: 'interrupted: the command was ended' };
}

/** The exit status that `stop` carries as its reason. */
export function stopStatus(stop: AbortSignal): number {
  return typeof stop.reason === 'number' ? stop.reason : 143;
}
