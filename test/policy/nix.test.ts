// evaluateNix(): what it accepts, what it refuses, and that a policy under evaluation reaches nothing. Not the library's own rules (nix-lib.test.ts).
import { spawnSync } from 'node:child_process';
import { chmodSync, readFileSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { loadPolicy } from '../../policy/load.ts';
import { evaluateNix, NixError, type NixOptions } from '../../policy/nix.ts';
import { asNobody } from '../helpers/as-nobody.ts';
import { needs } from '../helpers/needs.ts';

const withNix = { skip: needs(t, ['nix-instantiate']) };
const asRoot = { skip: needs(t, ['nix-instantiate', 'root', 'setpriv']) };

/** The error of an evaluation that must fail. */
async function failure(path: string, options?: NixOptions): Promise<NixError> {
  try {
    await evaluateNix(path, options);
  } catch (error) {
    if (error instanceof NixError) return error;
    throw error;
  }
  throw new Error(`${path} was evaluated`);
}

t.test('a policy is an attribute set or a function of the library', withNix, async (t) => {
  const home = t.testdir({
    'set.nix': '{ allow."a.example.com" = "why"; }',
    'function.nix': 'sallyport: { groups = { inherit (sallyport.shipped.groups) nix; }; }',
    'empty.nix': '{ }',
  });
  const hosts = async (name: string): Promise<string[]> =>
    (await loadPolicy(join(home, name))).document.allow.map(({ host }) => host);
  t.same(await hosts('set.nix'), ['a.example.com']);
  t.same(await hosts('function.nix'), ['cache.nixos.org']);
  t.same(await hosts('empty.nix'), [], 'and an empty one allows nothing');
});

t.test('__proto__ and its kin arrive as plain names', withNix, async (t) => {
  const home = t.testdir({
    'p.nix': `{ groups."__proto__".allow."constructor.example.com" = "toString";
                groups.hasOwnProperty.services.constructor = { host = "valueof.example.com"; port = 1; reason = "__proto__"; }; }`,
  });
  const { document } = await loadPolicy(join(home, 'p.nix'));
  t.same(document.allow, [
    {
      id: 'allow/constructor.example.com',
      host: 'constructor.example.com',
      group: '__proto__',
      reason: 'toString',
    },
  ]);
  t.match(document.services, [{ name: 'constructor', group: 'hasOwnProperty', reason: '__proto__' }]);
});

t.test('no file name is ever Nix code or an option', withNix, async (t) => {
  const names = [
    'a b.nix',
    '"; abort "x.nix',
    '${builtins.abort "x"}.nix',
    "--store'.nix",
    'ü;#.nix',
    '<x>.nix',
  ];
  const home = t.testdir(Object.fromEntries(names.map((name) => [name, '{ }'])));
  for (const name of names) t.match(await evaluateNix(join(home, name)), /"version":1/, name);
});

t.test(
  'a policy may import its neighbours, and a link counts as the file it leads to',
  withNix,
  async (t) => {
    const home = t.testdir({
      real: { 'p.nix': 'import ./parts/a.nix', parts: { 'a.nix': '{ allow."a.example.com" = "why"; }' } },
    });
    symlinkSync('real/p.nix', join(home, 'link.nix'));
    t.match(await evaluateNix(join(home, 'link.nix')), /allow\/a\.example\.com/);
  },
);

t.test(
  'an evaluation reads no file outside the folder of the policy, and no environment',
  withNix,
  async (t) => {
    const home = t.testdir({
      'outside.nix': '{ }',
      'folder-too': { 'x.nix': '{ }' },
      folder: {
        'passwd.nix': '{ allow."a.example.com" = builtins.readFile /etc/passwd; }',
        'parent.nix': 'import ../outside.nix',
        'sibling.nix': 'import ../folder-too/x.nix',
        'link.nix': 'import ./leads-out.nix',
        'environment.nix': '{ allow."a.example.com" = "path=${builtins.getEnv "PATH"}"; }',
        'search.nix': 'import <nixpkgs>',
      },
    });
    symlinkSync('../outside.nix', join(home, 'folder/leads-out.nix'));
    for (const name of ['passwd', 'parent', 'sibling', 'link']) {
      const { code, message } = await failure(join(home, 'folder', `${name}.nix`));
      t.equal(code, 'nix_failed', name);
      t.match(
        message,
        /forbidden in restricted mode[^]*help: a policy reads files of its own folder and below/,
        name,
      );
    }
    t.match((await failure(join(home, 'folder/search.nix'))).message, /`?nixpkgs/);
    t.match(await evaluateNix(join(home, 'folder/environment.nix')), /"path="/);
  },
);

t.test('an evaluation sends nothing: no fetcher, no NIX_PATH with a URL, no build', withNix, async (t) => {
  let asked = 0;
  const server = createServer((_, response) => {
    asked += 1;
    response.end('x');
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/x.tar.gz`;
  const hash = '0000000000000000000000000000000000000000000000000000';
  const home = t.testdir({
    'fetchurl.nix': `{ allow."a.example.com" = builtins.readFile (builtins.fetchurl "${url}"); }`,
    'hashed.nix': `import (builtins.fetchTarball { url = "${url}"; sha256 = "${hash}"; })`,
    'git.nix': `import (builtins.fetchGit "${url}")`,
    'build.nix': `import (derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo {} > $out" ]; })`,
    'nix-path': `#!/bin/sh\nNIX_PATH=nixpkgs=http://127.0.0.1/x.tar.gz exec nix-instantiate "$@" 2>"$0.log"\n`,
    'fine.nix': '{ }',
  });
  for (const name of ['fetchurl', 'hashed', 'git', 'build']) {
    t.equal((await failure(join(home, `${name}.nix`))).code, 'nix_failed', name);
  }
  chmodSync(join(home, 'nix-path'), 0o755);
  await evaluateNix(join(home, 'fine.nix'), { command: join(home, 'nix-path') });
  t.equal(readFileSync(join(home, 'nix-path.log'), 'utf8'), '', 'no download was tried for NIX_PATH');
  t.equal(asked, 0, 'nothing arrived');
  await fetch(url);
  t.equal(asked, 1, 'and it would have been seen');
});

t.test('without nix the error says so and offers JSON', async (t) => {
  const home = t.testdir({ 'p.nix': '{ }', 'not-executable': '' });
  const error = await failure(join(home, 'p.nix'), { command: 'no-such-nix-instantiate' });
  t.equal(error.code, 'nix_missing');
  t.equal(
    (await failure(join(home, 'p.nix'), { command: join(home, 'not-executable') })).code,
    'nix_missing',
  );
  t.match(
    error.message,
    /p\.nix` needs nix, and no `nix-instantiate` on PATH can be run\nhelp: install nix .*or give the policy as JSON/,
  );
});

t.test("a failure carries nix's own words, trimmed, and a help line", withNix, async (t) => {
  const home = t.testdir({
    'throws.nix': '{ allow = throw "first line\\n  second line"; }',
    'partial.nix': '{ allow."a.example.com" = "fine"; tests.allow = [ (throw "too late") ]; }',
    'syntax.nix': '{ allow = ',
    'endless.nix': 'let x = x; in x',
    'number.nix': '42',
    'problems.nix': '{ allow."A.example.com" = { }; alow = { }; }',
    'escape.nix': '{ allow."a.example.com" = throw "\\u001b[31mred\\u001b[0m"; }'.replaceAll(
      '\\u001b',
      '\u001B',
    ),
  });
  const message = async (name: string): Promise<string> => (await failure(join(home, `${name}.nix`))).message;
  t.match(await message('throws'), /throws\.nix` cannot be evaluated: first line\n {2}second line\nhelp: /);
  t.match(await message('partial'), /too late/, 'though a broken beginning was printed');
  t.match(await message('syntax'), /syntax error, unexpected end of file[^]*syntax\.nix:1:/);
  t.match(await message('endless'), /infinite recursion/);
  t.match(
    await message('number'),
    /the policy has 1 problem\nthe policy: `42` is not an attribute set\n {2}help: write \{ \.\.\. \}/,
  );
  const problems = await message('problems');
  t.match(
    problems,
    /the policy has 2 problems\nthe policy: unknown key `alow`\n {2}help: known here: allow, deny, /,
  );
  t.match(
    problems,
    /\nallow\."A\.example\.com": the reason is missing\n {2}help: add reason = "why this is needed"\nhelp: /,
  );
  t.notOk((await message('escape')).includes('\u001B'), 'no escape sequence reaches the terminal');
  t.notMatch(await message('throws'), /show-trace/);
});

t.test('a file that is not there is named', async (t) => {
  t.match(
    (await failure(join(t.testdir({}), 'absent.nix'))).message,
    /cannot read `.*absent\.nix`\nhelp: check the path/,
  );
});

t.test('an evaluation has an end: in time, and in bytes', withNix, async (t) => {
  const home = t.testdir({
    'slow.nix': `let list = builtins.genList (x: x) 10000; each = f: builtins.foldl' (_: f) null list;
                 in builtins.seq (each (_: each (_: each (_: each (x: x))))) { }`,
    'large.nix':
      '{ allow = builtins.listToAttrs (builtins.genList (n: { name = "h${toString n}.example.com"; value = "why"; }) 1000); }',
  });
  t.equal((await failure(join(home, 'slow.nix'), { timeoutMs: 300 })).code, 'nix_timeout');
  const large = await failure(join(home, 'large.nix'), { maxBytes: 10_000 });
  t.equal(large.code, 'nix_failed');
  t.match(large.message, /evaluates to too much text/);
});

t.test('an ordinary user without a home and without rights on /nix can evaluate', asRoot, async (t) => {
  const module = JSON.stringify(join(import.meta.dirname, '../../policy/nix.ts'));
  const policy = join(import.meta.dirname, '../../policy/default.nix');
  const script = `process.stdout.write(await (await import(${module})).evaluateNix(${JSON.stringify(policy)}))`;
  const home = ['env', '-u', 'NIX_CONFIG', 'HOME=/nonexistent'];
  const [program, ...words] = asNobody([...home, process.execPath, '--input-type=module', '-e', script]);
  const result = spawnSync(program, words, { encoding: 'utf8' });
  t.equal(result.status, 0, result.stderr);
  t.equal(result.stdout, await evaluateNix(policy), 'and gets what root gets');
});

t.test('a pipe in the place of the policy is an error, not a hang', withNix, async (t) => {
  const pipe = join(t.testdir({}), 'p.nix');
  t.equal(spawnSync('mkfifo', [pipe]).status, 0);
  t.equal((await failure(pipe, { timeoutMs: 300 })).code, 'nix_timeout');
});
