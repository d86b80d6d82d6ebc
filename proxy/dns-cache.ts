// Keeps answers, good and bad, for a bounded time in a bounded number of entries. Asks nobody.

export interface TtlCache<Value> {
  get(key: string): Value | undefined;
  /** A ttl of 0 or less keeps nothing. */
  set(key: string, value: Value, ttlMs: number): void;
}

/** Keeps at most `maxEntries`; the one used longest ago goes first. `now` in ms. */
export function createTtlCache<Value>(maxEntries: number, now: () => number): TtlCache<Value> {
  // Insertion order is order of use: an entry that is used is put in again.
  const entries = new Map<string, { readonly value: Value; readonly until: number }>();
  return {
    get(key) {
      const entry = entries.get(key);
      if (entry === undefined) return undefined;
      entries.delete(key);
      if (entry.until <= now()) return undefined;
      entries.set(key, entry);
      return entry.value;
    },
    set(key, value, ttlMs) {
      entries.delete(key);
      if (ttlMs <= 0) return;
      entries.set(key, { value, until: now() + ttlMs });
      for (const oldest of entries.keys()) {
        if (entries.size <= maxEntries) break;
        entries.delete(oldest);
      }
    },
  };
}
