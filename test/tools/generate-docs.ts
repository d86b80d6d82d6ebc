// Writes the generated pages of docs/. `--check` writes nothing and exits 1 when a page differs. Not a place for prose: each page comes from the code it describes.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { reasonsPage } from '../../policy/index.ts';
import { configPage, metricsPage } from '../../proxy/index.ts';

const docs = join(import.meta.dirname, '../../docs');

/** Page name to its text; a literal list so that a reader sees every generated page here. */
const pages: ReadonlyMap<string, () => string> = new Map([
  ['reasons.md', reasonsPage],
  ['metrics.md', metricsPage],
  ['config.md', configPage],
]);

const stale = [...pages].filter(([name, text]) => current(name) !== text());
if (process.argv.includes('--check')) {
  for (const [name] of stale) console.error(`docs/${name} differs from the code\nhelp: npm run docs`);
  process.exitCode = stale.length > 0 ? 1 : 0;
} else {
  for (const [name, text] of stale) writeFileSync(join(docs, name), text());
}

function current(name: string): string | undefined {
  try {
    return readFileSync(join(docs, name), 'utf8');
  } catch {
    return undefined;
  }
}
