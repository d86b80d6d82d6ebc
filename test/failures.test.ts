// Holds docs/failures.md to the suite: each known way to fail names a test that is there. Not a test of the behaviour itself.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const root = join(import.meta.dirname, '..');
const rows = [
  ...readFileSync(join(root, 'docs/failures.md'), 'utf8').matchAll(
    /^\| (\d+) \| .* \| \[`([^`]+)`\].* \| (.+) \|$/gm,
  ),
];

t.test('every row of docs/failures.md names words that stand in the test file it names', async (t) => {
  t.ok(rows.length > 40, `${rows.length} rows were read`);
  const dead = rows.filter(
    ([, , file = '', words = '']) => !readFileSync(join(root, file), 'utf8').includes(words),
  );
  t.same(
    dead.map(([row]) => row),
    [],
  );
});
