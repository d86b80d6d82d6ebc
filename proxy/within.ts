// Waits for something, but not for ever. Stops nothing that goes on.

/** Settles when `work` does, or after `ms`. True: it was in time. Rejects when `work` does. */
export async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, ms, false);
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
