// Runs every command block of README.md and docs/ that can run here, checks links between pages, and holds the generated pages to the code. Not a test of what the commands do in depth.
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';

const root = join(import.meta.dirname, '..');
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...globSync('docs/**/*.md', { cwd: root }),
].toSorted();
const read = (page: string): string => readFileSync(join(root, page), 'utf8');

/** The info string says how a block ends: nothing means exit 0, `exit=N` that status, `not-run: why` that it cannot run in a test. */
const blocks = pages.flatMap((page) =>
  [...read(page).matchAll(/^```sh(?: ([^\n]*))?\n([\s\S]*?)^```$/gm)].map((m) => ({
    page,
    info: m[1] ?? '',
    commands: m[2] ?? '',
  })),
);
const runnable = blocks.filter((block) => !block.info.startsWith('not-run:'));

t.test('every command block runs as its page says', async (t) => {
  t.ok(runnable.length > 0, 'there are blocks to run');
  for (const { page, info, commands } of runnable) {
    const env = { ...process.env, PATH: `${join(root, 'node_modules/.bin')}:${process.env['PATH']}` };
    const ran = spawnSync('sh', ['-e', '-c', commands], {
      cwd: root,
      env,
      encoding: 'utf8',
      timeout: 60_000,
    });
    const status = Number(/exit=(\d+)/.exec(info)?.[1] ?? 0);
    t.equal(ran.status, status, `${page}: ${commands.trim().split('\n')[0]}\n${ran.stdout}${ran.stderr}`);
  }
});

t.test('a block that is not run says why', async (t) => {
  const silent = blocks.filter((block) => /^not-run:\s*$/.test(block.info));
  t.same(
    silent.map((block) => block.page),
    [],
  );
});

t.test('every link between pages and to sources leads somewhere', async (t) => {
  const dead = pages.flatMap((page) =>
    [...read(page).matchAll(/\]\((?!https?:)([^)#\s]+)[^)]*\)/g)]
      .map((m) => m[1] ?? '')
      .filter((link) => !existsSync(join(root, dirname(page), link)))
      .map((link) => `${page} -> ${link}`),
  );
  t.same(dead, []);
});

t.test('the generated pages are what the code says today', async (t) => {
  const ran = spawnSync(process.execPath, [join(root, 'test/tools/generate-docs.ts'), '--check'], {
    encoding: 'utf8',
  });
  t.equal(ran.status, 0, ran.stderr);
});

t.test('the README shows the two commands, and CI runs exactly the second', async (t) => {
  t.match(read('README.md'), /^npm run demo$/m);
  t.match(read('README.md'), /^npm test$/m);
  t.match(read('.ci/run'), /^npm test$/m);
});

t.test('every command of the two programs is in the README or a page of docs/', async (t) => {
  const text = pages.map(read).join('\n');
  const help = (args: readonly string[]): string =>
    spawnSync(process.execPath, args.map((a) => join(root, a)).concat('--help'), { encoding: 'utf8' }).stdout;
  const commands = (program: string, main: string): readonly string[] =>
    [...(help([main]).split('Commands:')[1]?.split('\n\n')[0] ?? '').matchAll(/^ {2}([a-z]+)\b/gm)].map(
      (m) => `${program} ${m[1]}`,
    );
  const all = [...commands('sallyport', 'container/main.ts'), ...commands('policy', 'policy/cli.ts')].filter(
    (c) => !c.endsWith(' help'),
  );
  t.ok(all.length >= 8, all.join(', '));
  t.same(
    all.filter((command) => !text.includes(command)),
    [],
  );
});
