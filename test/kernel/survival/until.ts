// Waits for what sends no event.
import { setTimeout as delay } from 'node:timers/promises';

/** Asks again until it is so; gives up after 15 s. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not come true within 15 s');
    await delay(20);
  }
}
