// What is reported of the kernel fence, as metrics: what its watch counts, which never goes back, and the probes of the gate. Does not read the kernel.
import type { Counter, Gauge } from 'prom-client';
import { dropClasses, gateResults, type FenceReport, type GateReport } from './metric-table.ts';

/** The four series of the fence. */
export interface FenceSeries {
  readonly drops: Counter;
  readonly ok: Gauge;
  readonly breaks: Counter;
  readonly repairs: Counter;
}

/** Takes each report; series of all classes exist from the start. */
export function countFence({ drops, ok, breaks, repairs }: FenceSeries): (report: FenceReport) => void {
  const seen = new Map<string, number>();
  const last = { ok: true, repairs: 0 };
  for (const name of dropClasses) drops.labels({ class: name }).inc(0);
  return (report) => {
    ok.set(report.ok ? 1 : 0);
    if (last.ok && !report.ok) breaks.inc();
    last.ok = report.ok;
    repairs.inc(growth(last.repairs, report.repairs));
    last.repairs = report.repairs;
    for (const name of dropClasses) {
      const now = report.drops[name];
      if (now === undefined) continue;
      drops.labels({ class: name }).inc(growth(seen.get(name) ?? 0, now));
      seen.set(name, now);
    }
  };
}

/** A count that fell was begun anew, with its table or its watch: what it shows has all been since. */
function growth(before: number, now: number): number {
  return now >= before ? now - before : now;
}

/** Takes each report of the gate; series of all results exist from the start. */
export function countGate(probes: Counter, time: Gauge): (report: GateReport) => void {
  for (const result of gateResults) probes.labels({ result }).inc(0);
  return (report) => {
    probes.labels({ result: 'passed' }).inc(report.passed);
    probes.labels({ result: 'failed' }).inc(report.failed);
    probes.labels({ result: 'not_tried' }).inc(report.notTried);
    time.set(report.time);
  };
}
