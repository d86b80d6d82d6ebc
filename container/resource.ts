// What a run has taken and must give back. Releases in reverse, once each, all of them even when one fails.

/** Something to give back. `release` is called at most once, with what could not be given back before it, and may reject. */
export interface Resource {
  readonly name: string;
  release(failures?: readonly ReleaseFailure[]): Promise<void> | void;
}

/** One release that failed. */
export interface ReleaseFailure {
  readonly name: string;
  readonly error: unknown;
}

/** A stack of resources with one owner. */
export interface Resources {
  /** Takes charge of `resource`; after `releaseAll` has begun it is released at once. */
  add(resource: Resource): Promise<void>;
  /** Gives everything back, last taken first. A second call waits for the first and changes nothing. */
  releaseAll(): Promise<readonly ReleaseFailure[]>;
}

/** An empty stack. */
export function createResources(): Resources {
  const held: Resource[] = [];
  const failures: ReleaseFailure[] = [];
  let ending: Promise<readonly ReleaseFailure[]> | undefined;

  async function drain(): Promise<readonly ReleaseFailure[]> {
    for (let next = held.pop(); next !== undefined; next = held.pop()) await releaseOne(next, failures);
    return failures;
  }
  return {
    // A resource that arrives during the end (a signal met the start half-way) must not be left behind.
    async add(resource) {
      if (ending === undefined) held.push(resource);
      else await releaseOne(resource, failures);
    },
    async releaseAll() {
      ending ??= drain();
      return await ending;
    },
  };
}

async function releaseOne(resource: Resource, failures: ReleaseFailure[]): Promise<void> {
  try {
    await resource.release(failures);
  } catch (error) {
    failures.push({ name: resource.name, error });
  }
}
