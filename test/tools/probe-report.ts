// Prints what the last kernel tests saw of each probe of the launch gate, behind the fence and without it, as a table. Judges nothing: the tests do.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ProbeResult } from '../../container/gate/result.ts';

/** Where test/escapes/probes.test.ts leaves what it saw, and the table of it. */
const file = join(import.meta.dirname, '../../.tap/probes.json');

/** One probe on one machine. */
export interface ProbeRow {
  readonly machine: string;
  readonly fenced: ProbeResult;
  readonly open: ProbeResult | undefined;
}

/** Keeps the rows of a run for the table. */
export function keepRows(rows: readonly ProbeRow[]): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, JSON.stringify(rows));
}

/** A Markdown table for each machine, and one line that sums it up. */
function tableOf(rows: readonly ProbeRow[]): string {
  const parts = [...Map.groupBy(rows, ({ machine }) => machine)].map(([machine, some]) => {
    const lines = some.map(
      ({ fenced, open }) =>
        `| ${fenced.id} | ${fenced.what} | ${fenced.verdict} | ${fenced.signal} | ${open?.signal ?? 'not there'} |`,
    );
    const head = [
      '| probe | what it tries | verdict | behind the fence | without a fence |',
      '| --- | --- | --- | --- | --- |',
    ];
    const bad = some.filter(({ fenced }) => fenced.verdict !== 'pass').length;
    return [`## ${machine}`, '', ...head, ...lines, '', `${some.length} probes, ${bad} not passed`].join(
      '\n',
    );
  });
  return `# Probes and results\n\n${parts.join('\n\n')}\n`;
}

if (import.meta.main) {
  try {
    const table = tableOf(JSON.parse(readFileSync(file, 'utf8')) as readonly ProbeRow[]);
    writeFileSync(file.replace(/json$/, 'md'), table);
    console.log(`${table}\nthis table is in .tap/probes.md`);
  } catch {
    console.log('no probe was sent: test/escapes/probes.test.ts did not run');
  }
}
