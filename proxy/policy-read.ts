// Reads the policy file into a policy without holding up the proxy: a small one at once, a large one in a thread. Keeps nothing.
import { readPolicyBytes, type Policy, type RunService } from '../policy/index.ts';
import { checkedPolicy } from './policy-check.ts';
import { canStartThread, checkInThread, threadBounds, type ThreadBounds } from './policy-thread.ts';

export interface PolicySource {
  readonly path: string;
  readonly services: readonly RunService[];
  readonly thread?: Partial<ThreadBounds>;
  /** Ends a thread that is at work. */
  readonly signal?: AbortSignal;
}

/** load, validate, run the document's own tests. Throws Error with what is wrong. */
export async function readPolicy({ path, services, thread = {}, signal }: PolicySource): Promise<Policy> {
  const bytes = await readPolicyBytes(path);
  const bounds = { ...threadBounds, ...thread };
  const job = { path, bytes, services };
  const isOwn = bytes.length < bounds.fromBytes || !canStartThread();
  return isOwn ? checkedPolicy(job) : await checkInThread(job, bounds, signal);
}
