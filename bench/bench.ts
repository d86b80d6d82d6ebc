// The whole of a bench run inside its world: rounds, report, files. Decides no figure.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadNow } from './machine.ts';
import type { Options } from './options.ts';
import { reportText } from './report.ts';
import { takeRounds } from './rounds.ts';
import type { World } from './world.ts';

const page = join(import.meta.dirname, '../docs/benchmarks.md');

/** Resolves with the exit status: 1 when a run failed. */
export async function bench(options: Options, world: World): Promise<number> {
  // This is process 1 of its namespace: what it started ends with it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));
  const loadBefore = loadNow();
  const say = (line: string): void =>
    void process.stderr.write(`${(performance.now() / 1000).toFixed(1)} s  ${line}\n`);
  const taken = await takeRounds({ ...options, world, say });
  const text = reportText({ ...options, world, taken, loadBefore });
  process.stdout.write(text);
  if (options.isWhole) writeFileSync(page, text);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(taken, null, 1)}\n`);
  return taken.failures.length === 0 ? 0 : 1;
}
