// Drop counters that live in the kernel, shown as counters that never go back. Does not read the kernel: the runner reports.
import type { Counter, Gauge } from 'prom-client';
import { dropClasses, type FenceReport } from './metric-table.ts';

/** Takes each report; series of all classes exist from the start. */
export function countFence(drops: Counter, ok: Gauge): (report: FenceReport) => void {
  const seen = new Map<string, number>();
  for (const name of dropClasses) drops.labels({ class: name }).inc(0);
  return (report) => {
    ok.set(report.ok ? 1 : 0);
    for (const name of dropClasses) {
      const now = report.drops[name];
      if (now === undefined) continue;
      drops.labels({ class: name }).inc(growth(seen.get(name) ?? 0, now));
      seen.set(name, now);
    }
  };
}

/** A kernel counter that fell was made anew with its table: what it shows has all been dropped since. */
function growth(before: number, now: number): number {
  return now >= before ? now - before : now;
}
