// Owns the policy in force: one reference, replaced whole or not at all. Reads it again when its file changes.
// Judges no request.
import {
  loadPolicy,
  PolicyError,
  readPolicyText,
  runPolicyTests,
  withServices,
  type Policy,
  type RunService,
} from '../policy/index.ts';
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
  /** Cuts what `policy`, now in force, would not admit; how many. Settles when all of them are cut. */
  readonly sever: (policy: Policy) => number | Promise<number>;
  /** Hears of every attempt, good or bad, whatever asked for it: the file, a signal or the operator. */
  readonly onReload: (result: ReloadResult) => void;
}

/** Loads the policy and watches its file. Throws what is wrong with the first one: there is no good one to keep. */
export async function openPolicyStore(options: PolicyStoreOptions): Promise<PolicyStore> {
  // Before reading: a change in between shows as another version.
  const version = policyVersion(options.path);
  return new FilePolicyStore(options, await read(options), version);
}

/**
 * Throws Error with help when this process, as it is now, cannot read the policy at `path`: a proxy that gave up root would serve, and
 * fail at every reload.
 */
export async function checkPolicyFile(path: string): Promise<void> {
  try {
    await readPolicyText(path);
  } catch (cause) {
    const [why] = (cause instanceof Error ? cause.message : String(cause)).split('\nhelp: ', 1);
    const help =
      'let the user the proxy becomes read the file and enter its folders, or no reload could work';
    throw new Error(`${why}\nhelp: ${help}`, { cause });
  }
}

/** load, validate, run the document's own tests. */
async function read({ path, services }: PolicyStoreOptions): Promise<Policy> {
  const policy = await loadNamed(path);
  const failed = runPolicyTests(policy).map(({ target, expect }) => `\`${target}\` should be ${expect}`);
  if (failed.length > 0) throw new Error(`policy \`${path}\` fails its own tests: ${failed.join(', ')}`);
  return services.length === 0 ? policy : withServices(policy, services);
}

/** A list of problems does not say in which file they are. */
async function loadNamed(path: string): Promise<Policy> {
  try {
    return await loadPolicy(path);
  } catch (cause) {
    if (!(cause instanceof PolicyError)) throw cause;
    throw new Error(`policy \`${path}\` cannot be used: ${cause.message}`, { cause });
  }
}

class FilePolicyStore implements PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #watch: { close(): void };
  #current: Policy;
  /** Digest of the policy for which the tunnels were last looked through, to the end. */
  #severedFor: string;
  #loadedAt: number;
  #lastError: string | null = null;
  #failures = 0;
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
      lastAttempt: this.#lastError === null ? 'ok' : 'failed',
      lastError: this.#lastError,
      failures: this.#failures,
    };
  }

  reload(): Promise<ReloadResult> {
    // INVARIANT: one attempt at a time, or an older reading could overtake a newer one.
    if (this.#next !== undefined) return this.#next;
    if (this.#running === undefined) return this.#start();
    this.#next = this.#running.then(() => {
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
    const result = await this.#load();
    this.#options.onReload(result);
    return result;
  }

  async #load(): Promise<ReloadResult> {
    try {
      return await this.#swap(await read(this.#options));
    } catch (error) {
      this.#lastError = error instanceof Error ? error.message : 'unknown error';
      this.#failures += 1;
      return { ok: false, digest: this.#current.digest, changed: false, severed: 0, error: this.#lastError };
    }
  }

  async #swap(policy: Policy): Promise<ReloadResult> {
    const changed = policy.digest !== this.#current.digest;
    this.#loadedAt = this.#options.clock();
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
