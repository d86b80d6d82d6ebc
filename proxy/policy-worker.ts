// What the thread of policy-thread.ts runs: checks one policy, says what came of it, and ends.
import { parentPort, workerData } from 'node:worker_threads';
import { checkedPolicy, type PolicyJob } from './policy-check.ts';
import type { ThreadAnswer } from './policy-thread.ts';

/** What cannot be moved is copied. */
function answer(): { readonly answer: ThreadAnswer; readonly move: ArrayBuffer[] } {
  try {
    const { image } = checkedPolicy(given(workerData));
    const { text, index } = image;
    const parts = [text, index.allow.entries, index.allow.slots, index.deny.entries, index.deny.slots];
    const move = parts.map(({ buffer }) => buffer).filter((buffer) => buffer instanceof ArrayBuffer);
    return { answer: { image }, move };
  } catch (error) {
    return { answer: { error: error instanceof Error ? error.message : String(error) }, move: [] };
  }
}

function given(job: unknown): PolicyJob {
  if (isJob(job)) return job;
  throw new Error('bug: the thread was given no policy');
}

function isJob(job: unknown): job is PolicyJob {
  return typeof job === 'object' && job !== null && 'path' in job && 'bytes' in job && 'services' in job;
}

const { answer: said, move } = answer();
parentPort?.postMessage(said, move);
