// Checks a large policy in a thread of its own, within bounds of time and memory, and takes over what it made without a copy. The
// thread ends with its one answer; that it dies is an error like any other.
import { accessSync, constants } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { Policy, type IndexedImage } from '../policy/index.ts';
import type { PolicyJob } from './policy-check.ts';

export interface ThreadBounds {
  /** A file of fewer bytes is checked by the proxy itself. */
  readonly fromBytes: number;
  readonly timeoutMs: number;
  readonly heapMb: number;
}

/**
 * 64 KiB are some 450 rules: 10 to 20 ms of the proxy itself. A thread takes a quarter of a second of another core to start, which nobody
 * should wait for after an edit of ten rules. The largest file that load.ts reads needs half of the heap: the bound is a last resort, because
 * Node may end the whole process when a thread runs out of it.
 */
export const threadBounds: ThreadBounds = { fromBytes: 64 * 1024, timeoutMs: 60_000, heapMb: 1024 };

/** What the thread says. */
export type ThreadAnswer = { readonly image: IndexedImage } | { readonly error: string };

const help =
  'make the policy smaller: name hosts by `*.` where that is meant, or split it among several proxies';

const threadFile = new URL('policy-worker.ts', import.meta.url);

/** False once root was given up in a checkout that only root may enter: then the proxy checks the policy itself, however long it takes. */
export function canStartThread(): boolean {
  try {
    accessSync(threadFile, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * The policy of `job`, whose bytes are taken away. Throws Error with what is wrong, or why there is no answer. No thread is left after it.
 */
export async function checkInThread(
  job: PolicyJob,
  { timeoutMs, heapMb }: ThreadBounds,
  signal?: AbortSignal,
): Promise<Policy> {
  signal?.throwIfAborted();
  const worker = new Worker(threadFile, {
    workerData: job,
    transferList: ownBuffer(job.bytes),
    // Nothing of how this process was started matters to it.
    execArgv: [],
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: heapMb },
  });
  const timer = Promise.withResolvers<never>();
  const late = setTimeout(
    () =>
      timer.reject(
        new Error(`policy \`${job.path}\`: the check took longer than ${timeoutMs} ms\nhelp: ${help}`),
      ),
    timeoutMs,
  );
  const stop = (): void => timer.reject(signal?.reason);
  signal?.addEventListener('abort', stop);
  try {
    const answer = await Promise.race([answerOf(worker, job.path), timer.promise]);
    if ('error' in answer) throw new Error(answer.error);
    return new Policy(answer.image);
  } finally {
    clearTimeout(late);
    signal?.removeEventListener('abort', stop);
    await worker.terminate();
  }
}

/** Moved, not copied; what shares a pool with others is copied. */
function ownBuffer({ buffer, byteLength }: Uint8Array): ArrayBuffer[] {
  return buffer instanceof ArrayBuffer && byteLength >= movedFromBytes ? [buffer] : [];
}

/** Node takes smaller buffers from a pool. */
const movedFromBytes = 64 * 1024;

async function answerOf(worker: Worker, path: string): Promise<ThreadAnswer> {
  return await new Promise((resolve, reject) => {
    const died = (why: string, cause?: unknown): void =>
      reject(new Error(`policy \`${path}\`: the check died: ${why}\nhelp: ${help}`, { cause }));
    worker.on('message', resolve);
    worker.on('messageerror', (error) => died(error.message, error));
    worker.on('error', (error) => died(error instanceof Error ? error.message : String(error), error));
    worker.on('exit', (code) => died(`it ended with ${code} and no answer`));
  });
}
