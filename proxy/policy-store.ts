// Owns the policy in force: one reference, replaced whole or not at all. Reads it again when its file changes.
// Judges no request.
import { readPolicyBytes, type Policy, type RunService } from '../policy/index.ts';
import { readPolicy } from './policy-read.ts';
import type { ThreadBounds } from './policy-thread.ts';
import { policyVersion, watchPolicyFile, type FileVersion } from './policy-watch.ts';

export interface ReloadResult {
  readonly ok: boolean;
  /** Digest of the policy in force after the attempt. */
  readonly digest: string;
  readonly changed: boolean;
  /** Tunnels that the new policy would not admit, and that were cut. */
  readonly severed: number;
  /** Why the last good policy was kept; null when `ok`. */
  readonly error: string | null;
}

export interface PolicyState {
  readonly digest: string;
  /** ms since 1970. */
  readonly loadedAt: number;
  /** ms since then, by a clock that does not jump. */
  readonly ageMs: number;
  readonly lastAttempt: 'ok' | 'failed';
  readonly lastError: string | null;
  readonly failures: number;
}

export interface PolicyStore {
  readonly current: Policy;
  readonly state: PolicyState;
  /** Never rejects. One at a time; calls that come while one runs share the next. */
  reload(): Promise<ReloadResult>;
  /** Ends the watch, and gives up a reload that is under way: it fails, and nobody but its caller is told. */
  close(): void;
}

export interface PolicyStoreOptions {
  readonly path: string;
  /** Services of the run, on top of the document's. */
  readonly services: readonly RunService[];
  readonly clock: () => number;
  /** Cuts what `policy`, now in force, would not admit; how many. */
  readonly sever: (policy: Policy) => number | Promise<number>;
  /** Hears of every attempt, good or bad, whatever asked for it: the file, a signal or the operator. */
  readonly onReload: (result: ReloadResult) => void;
  /** For the thread in which a large policy is checked. */
  readonly thread?: Partial<ThreadBounds>;
}

/** Loads the policy and watches its file. Throws what is wrong with the first one: there is no good one to keep. */
export async function openPolicyStore(options: PolicyStoreOptions): Promise<PolicyStore> {
  // Before reading: a change in between shows as another version.
  const version = policyVersion(options.path);
  return new FilePolicyStore(options, await readPolicy(options), version);
}

/**
 * Throws Error with help when this process, as it is now, cannot read the policy at `path`: a proxy that gave up root would serve, and
 * fail at every reload.
 */
export async function checkPolicyFile(path: string): Promise<void> {
  try {
    await readPolicyBytes(path);
  } catch (cause) {
    const [why] = (cause instanceof Error ? cause.message : String(cause)).split('\nhelp: ', 1);
    const help =
      'let the user the proxy becomes read the file and enter its folders, or no reload could work';
    throw new Error(`${why}\nhelp: ${help}`, { cause });
  }
}

class FilePolicyStore implements PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #watch: { close(): void };
  #current: Policy;
  /** Digest of the policy for which the tunnels were last looked through, to the end. */
  #severedFor: string;
  #loadedAt: number;
  /** The same moment for performance.now. */
  #since = performance.now();
  #lastError: string | null = null;
  #failures = 0;
  #closing = new AbortController();
  #running: Promise<ReloadResult> | undefined;
  #next: Promise<ReloadResult> | undefined;

  constructor(options: PolicyStoreOptions, policy: Policy, version: FileVersion) {
    this.#options = options;
    this.#current = policy;
    this.#severedFor = policy.digest;
    this.#loadedAt = options.clock();
    this.#watch = watchPolicyFile(options.path, version, () => void this.reload());
  }

  get current(): Policy {
    return this.#current;
  }

  get state(): PolicyState {
    return {
      digest: this.#current.digest,
      loadedAt: this.#loadedAt,
      ageMs: performance.now() - this.#since,
      lastAttempt: this.#lastError === null ? 'ok' : 'failed',
      lastError: this.#lastError,
      failures: this.#failures,
    };
  }

  reload(): Promise<ReloadResult> {
    // INVARIANT: one attempt at a time, or an older reading could overtake a newer one.
    const { signal } = this.#closing;
    if (this.#next !== undefined) return this.#next;
    if (this.#running === undefined) return this.#start(signal);
    this.#next = this.#running.then(() => {
      this.#next = undefined;
      return this.#start(signal);
    });
    return this.#next;
  }

  close(): void {
    this.#watch.close();
    this.#closing.abort(new Error('the proxy is closing'));
    this.#closing = new AbortController();
  }

  #start(signal: AbortSignal): Promise<ReloadResult> {
    this.#running = this.#attempt(signal).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #attempt(signal: AbortSignal): Promise<ReloadResult> {
    const result = await this.#load(signal);
    if (!signal.aborted) this.#options.onReload(result);
    return result;
  }

  async #load(signal: AbortSignal): Promise<ReloadResult> {
    try {
      const policy = await readPolicy({ ...this.#options, signal });
      signal.throwIfAborted();
      return await this.#swap(policy);
    } catch (error) {
      return this.#failed(error instanceof Error ? error.message : 'unknown error', signal);
    }
  }

  #failed(error: string, { aborted }: AbortSignal): ReloadResult {
    if (!aborted) {
      this.#lastError = error;
      this.#failures += 1;
    }
    return { ok: false, digest: this.#current.digest, changed: false, severed: 0, error };
  }

  async #swap(policy: Policy): Promise<ReloadResult> {
    const changed = policy.digest !== this.#current.digest;
    this.#loadedAt = this.#options.clock();
    this.#since = performance.now();
    // The same meaning keeps the same object: tunnels compare by it.
    if (changed) this.#current = policy;
    const severed = await this.#severForCurrent();
    this.#lastError = null;
    return { ok: true, digest: policy.digest, changed, severed, error: null };
  }

  /** What an attempt before this one could not finish is done now. */
  async #severForCurrent(): Promise<number> {
    const { digest } = this.#current;
    if (digest === this.#severedFor) return 0;
    const severed = await this.#options.sever(this.#current);
    this.#severedFor = digest;
    return severed;
  }
}
