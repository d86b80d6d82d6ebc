// Holds the dependency direction, the one place of each library, and the doors of the folders. Reads the sources as text; runs none of them.
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import t from 'tap';

const root = join(import.meta.dirname, '..');
const folders = ['policy', 'proxy', 'nft', 'container'] as const;
type Folder = (typeof folders)[number];

interface Import {
  readonly file: string;
  readonly from: string;
  readonly typeOnly: boolean;
}

/** A folder may import the doors listed; the reason is printed when it imports another. */
const mayImport: Record<Folder, { readonly doors: readonly Folder[]; readonly because: string }> = {
  policy: { doors: [], because: '`policy check` runs anywhere, and decide() is fuzzed alone' },
  nft: { doors: [], because: 'the fence holds when the proxy or the policy is wrong' },
  proxy: { doors: ['policy'], because: 'a proxy on a laptop or in a pod needs no kernel rights' },
  container: { doors: ['nft', 'policy', 'proxy'], because: 'a runner starts parts, it does not carry bytes' },
};

/** One library, one place. A trailing slash means every file of that folder. */
const places: ReadonlyMap<string, readonly string[]> = new Map([
  ['ajv', ['policy/load.ts', 'policy/document.ts', 'policy/schema.ts']],
  ['tldts', ['policy/']],
  ['commander', ['policy/cli.ts', 'proxy/main.ts', 'nft/cli.ts', 'container/']],
  ['execa', ['nft/client.ts', 'container/backends/']],
  ['pino', ['proxy/observe/audit.ts', 'proxy/main.ts']],
  ['prom-client', ['proxy/observe/', 'proxy/admin.ts']],
  [
    'undici',
    [
      'proxy/admin-client.ts',
      'proxy/listeners/http-agent.ts',
      'proxy/listeners/http-exchange.ts',
      'proxy/listeners/http-answer.ts',
    ],
  ],
]);

/** The files of container/ that may know the proxy at run time: one starts it, one lists its commands. */
const proxyKnowers = ['container/proxy-part.ts', 'container/main.ts'];

const sources = folders.flatMap((folder) => globSync(`${folder}/**/*.ts`, { cwd: root })).toSorted();

function importsOf(file: string): readonly Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const pattern =
    /^(?:import|export)\s+(type\s+)?[^;'"]*?from\s+'([^']+)'|^import\s+'([^']+)'|import\('([^']+)'\)/gm;
  return [...text.matchAll(pattern)].map((m) => ({
    file,
    from: m[2] ?? m[3] ?? m[4] ?? '',
    typeOnly: m[1] !== undefined,
  }));
}

const all = sources.flatMap(importsOf);
const folderOf = (path: string): string => path.split('/')[0] ?? '';
const target = (i: Import): string => relative(root, join(root, dirname(i.file), i.from));
const isLocal = (i: Import): boolean => i.from.startsWith('.');
const isSource = (i: Import): boolean => isLocal(i) && target(i) !== 'package.json';
const crossing = all.filter((i) => isSource(i) && folderOf(target(i)) !== folderOf(i.file));

t.test('a folder imports only the doors it may', async (t) => {
  const wrong = crossing.filter(
    (i) => !mayImport[folderOf(i.file) as Folder].doors.includes(folderOf(target(i)) as Folder),
  );
  t.same(
    wrong.map(
      (i) => `${i.file} imports ${target(i)}: no, because ${mayImport[folderOf(i.file) as Folder].because}`,
    ),
    [],
  );
});

t.test('a folder is entered by its index.ts only', async (t) => {
  const wrong = crossing.filter((i) => target(i) !== `${folderOf(target(i))}/index.ts`);
  t.same(
    wrong.map((i) => `${i.file} imports ${target(i)}`),
    [],
  );
});

t.test(
  'in container/ only the file that starts the proxy and the command list know it, and policy is types only',
  async (t) => {
    const toProxy = crossing.filter(
      (i) => folderOf(i.file) === 'container' && folderOf(target(i)) === 'proxy' && !i.typeOnly,
    );
    t.same(
      toProxy.filter((i) => !proxyKnowers.includes(i.file)).map((i) => i.file),
      [],
    );
    const toPolicy = crossing.filter(
      (i) => folderOf(i.file) === 'container' && folderOf(target(i)) === 'policy' && !i.typeOnly,
    );
    t.same(
      toPolicy.map((i) => i.file),
      [],
    );
  },
);

t.test('one library, one place', async (t) => {
  const packages = all.filter((i) => !isLocal(i) && !i.from.startsWith('node:'));
  const inPlace = (i: Import): boolean =>
    (places.get(i.from) ?? []).some((place) =>
      place.endsWith('/') ? i.file.startsWith(place) : i.file === place,
    );
  t.same(
    packages.filter((i) => !inPlace(i)).map((i) => `${i.file} imports ${i.from}`),
    [],
  );
});

t.test(
  'policy opens no socket and reads no clock, and only its loading and command files touch the system',
  async (t) => {
    const system = ['policy/load.ts', 'policy/nix.ts', 'policy/cli.ts'];
    const allowed = ['node:net', 'node:crypto', 'node:url'];
    const wrong = all.filter(
      (i) =>
        i.file.startsWith('policy/') &&
        i.from.startsWith('node:') &&
        !allowed.includes(i.from) &&
        !system.includes(i.file),
    );
    t.same(
      wrong.map((i) => `${i.file} imports ${i.from}`),
      [],
    );
    const clocks = sources.filter(
      (file) =>
        file.startsWith('policy/') &&
        /Date\.now|performance\.now|new Date\(\)|Math\.random/.test(readFileSync(join(root, file), 'utf8')),
    );
    t.same(clocks, []);
  },
);

t.test('process.env is read at the edges only: configuration and the command entries', async (t) => {
  const edges = ['container/main.ts', 'policy/cli.ts'];
  const wrong = sources.filter(
    (file) => !edges.includes(file) && !/\/config[\w-]*\.ts$/.test(file) && /process\.env\b/.test(code(file)),
  );
  t.same(wrong, []);
});

t.test('no module keeps mutable state at its top level', async (t) => {
  t.same(
    sources.filter((file) => /^(export )?let /m.test(readFileSync(join(root, file), 'utf8'))),
    [],
  );
});

t.test('every source says in its first line what it is for, and none is longer than 250 lines', async (t) => {
  const text = (file: string): string => readFileSync(join(root, file), 'utf8');
  t.same(
    sources.filter((file) => !/^(#!.*\n)?(\/\/|\/\*\*?) ?\S/.test(text(file))),
    [],
    'first line is a comment',
  );
  t.same(
    sources.filter((file) => text(file).split('\n').length > 251),
    [],
    'at most 250 lines',
  );
});

t.test('the top level is the fixed one', async (t) => {
  const fixed = ['policy', 'proxy', 'nft', 'container', 'test', 'bench', 'docs', 'examples'];
  const found = new Set(
    globSync('*/', { cwd: root, exclude: (name) => name === 'node_modules' || name === 'coverage' }).map(
      folderOf,
    ),
  );
  t.same(
    [...found].filter((folder) => !fixed.includes(folder) && !folder.startsWith('.')),
    [],
  );
});

/** A source without its comments, so that prose may name what code may not. */
function code(file: string): string {
  return readFileSync(join(root, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
}
