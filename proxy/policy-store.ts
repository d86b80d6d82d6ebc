// Owns the policy in force: one reference, replaced whole or not at all. Reads it again when its file changes.
// Judges no request.
import { loadPolicy, runPolicyTests, withServices, type Policy, type RunService } from '../policy/index.ts';
import { watchPolicyFile } from './policy-watch.ts';

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

/** Times in ms since 1970. */
export interface PolicyState {
  readonly digest: string;
  readonly loadedAt: number;
  readonly lastAttempt: 'ok' | 'failed';
  readonly lastError: string | null;
  readonly failures: number;
}

export interface PolicyStore {
  readonly current: Policy;
  readonly state: PolicyState;
  /** Never rejects. One at a time; calls that come while one runs share the next. */
  reload(): Promise<ReloadResult>;
  close(): void;
}

export interface PolicyStoreOptions {
  readonly path: string;
  /** Services of the run, on top of the document's. */
  readonly services: readonly RunService[];
  readonly clock: () => number;
  /** Cuts what `policy`, now in force, would not admit; how many. */
  readonly sever: (policy: Policy) => number;
}

/** Loads the policy and watches its file. Throws what is wrong with the first one: there is no good one to keep. */
export async function openPolicyStore(options: PolicyStoreOptions): Promise<PolicyStore> {
  return new FilePolicyStore(options, await read(options));
}

/** load, validate, run the document's own tests. */
async function read({ path, services }: PolicyStoreOptions): Promise<Policy> {
  const policy = await loadPolicy(path);
  const failed = runPolicyTests(policy).map(({ target, expect }) => `\`${target}\` should be ${expect}`);
  if (failed.length > 0) throw new Error(`policy \`${path}\` fails its own tests: ${failed.join(', ')}`);
  return services.length === 0 ? policy : withServices(policy, services);
}

class FilePolicyStore implements PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #watch: { close(): void };
  #current: Policy;
  #loadedAt: number;
  #lastError: string | null = null;
  #failures = 0;
  #running: Promise<ReloadResult> | undefined;
  #next: Promise<ReloadResult> | undefined;

  constructor(options: PolicyStoreOptions, policy: Policy) {
    this.#options = options;
    this.#current = policy;
    this.#loadedAt = options.clock();
    this.#watch = watchPolicyFile(options.path, () => void this.reload());
  }

  get current(): Policy {
    return this.#current;
  }

  get state(): PolicyState {
    return {
      digest: this.#current.digest,
      loadedAt: this.#loadedAt,
      lastAttempt: this.#lastError === null ? 'ok' : 'failed',
      lastError: this.#lastError,
      failures: this.#failures,
    };
  }

  reload(): Promise<ReloadResult> {
    if (this.#running === undefined) return this.#start();
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.#start();
    });
    return this.#next;
  }

  close(): void {
    this.#watch.close();
  }

  #start(): Promise<ReloadResult> {
    this.#running = this.#attempt().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #attempt(): Promise<ReloadResult> {
    try {
      return this.#swap(await read(this.#options));
    } catch (error) {
      this.#lastError = error instanceof Error ? error.message : 'unknown error';
      this.#failures += 1;
      return { ok: false, digest: this.#current.digest, changed: false, severed: 0, error: this.#lastError };
    }
  }

  #swap(policy: Policy): ReloadResult {
    const changed = policy.digest !== this.#current.digest;
    this.#lastError = null;
    this.#loadedAt = this.#options.clock();
    // The same meaning keeps the same object: tunnels compare by it.
    if (changed) this.#current = policy;
    const severed = changed ? this.#options.sever(policy) : 0;
    return { ok: true, digest: policy.digest, changed, severed, error: null };
  }
}
