// The whole of a bench run inside its world: rounds, tables, files. Decides no figure.
import { writeFileSync } from 'node:fs';
import type { Options } from './options.ts';
import { takeRounds } from './rounds.ts';
import { measureTable } from './tables.ts';
import type { World } from './world.ts';

export async function bench(options: Options, world: World): Promise<number> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const taken = await takeRounds({ ...options, world, say });
  for (const measure of options.measures)
    console.log(`\n${measure.title}\n\n${measureTable(measure, options.peers, taken, options.scale)}`);
  if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(taken));
  return taken.failures.length === 0 ? 0 : 1;
}
