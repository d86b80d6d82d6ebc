// Tells a listener what the looks found, beside them: one that does not answer must not hold up a repair. Looks at nothing and judges nothing.
import type { FenceReport } from './watch-look.ts';

export interface Teller {
  /** The fence was open for a moment, and may hold again: the listener hears of it before it hears that all is well. */
  owe(problems: readonly string[]): void;
  /** Tells `now`, or what is newer by the time the listener has taken the one before. Resolves when there is nothing to tell; never rejects. */
  tell(now: FenceReport): Promise<void>;
  /** What is not being told by now stays untold. */
  stop(): Promise<void>;
}

/** What `report` rejects is told again, with the next look. */
export function createTeller(report: (report: FenceReport) => Promise<void>): Teller {
  let owed: readonly string[] | null = null;
  let next: FenceReport | null = null;
  let telling: Promise<void> | null = null;
  const paid = (problems: readonly string[] | null): void => {
    if (owed === problems) owed = null;
  };
  const deliver = async (now: FenceReport): Promise<void> => {
    const problems = owed;
    if (problems !== null && now.ok) await report({ ...now, ok: false, problems });
    paid(problems);
    await report(now);
    paid(now.problems);
  };
  const tellAll = async (): Promise<void> => {
    for (let now = next; now !== null; now = next) {
      next = null;
      // INVARIANT: what is broken stays owed until it was taken, also when a newer look is told in its place.
      await deliver(now).catch(() => undefined);
    }
    telling = null;
  };
  return {
    owe(problems) {
      owed = problems;
    },
    tell(now) {
      next = now;
      if (!now.ok) owed = now.problems;
      return (telling ??= tellAll());
    },
    async stop() {
      next = null;
      await telling;
    },
  };
}
