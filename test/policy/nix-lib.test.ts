// policy/lib.nix, the shipped allowlist, the examples and the flake, run by a real Nix. The cases themselves are data: nix-cases.nix.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { canonicalText } from '../../policy/document.ts';
import { canonicalHost, isAliasName } from '../../policy/host.ts';
import { loadPolicy, parsePolicy } from '../../policy/load.ts';
import { evaluateNix } from '../../policy/nix.ts';
import { runPolicyTests } from '../../policy/policy-tests.ts';
import { fuzzParameters } from '../helpers/fuzz.ts';
import { needs } from '../helpers/needs.ts';

const root = join(import.meta.dirname, '../..');
const withNix = { skip: needs(t, ['nix-instantiate']) };
const withFlakes = { skip: needs(t, ['nix-instantiate', 'nix']) };

/** The value of a Nix expression. */
function nix(expression: string, ...args: string[]): unknown {
  const options = ['--eval', '--strict', '--json', '--readonly-mode', '--store', 'dummy://'];
  const text = execFileSync('nix-instantiate', [...options, ...args, '-E', expression], {
    cwd: root,
    encoding: 'utf8',
  });
  return JSON.parse(text);
}

t.test(
  'every case of nix-cases.nix holds: what can be written, and each readable error',
  withNix,
  async (t) => {
    const { count, failures } = nix('import ./test/policy/nix-cases.nix') as {
      count: number;
      failures: unknown[];
    };
    t.same(failures, []);
    t.ok(count > 80, `${count} cases`);
  },
);

t.test('default.json is what default.nix compiles to, byte for byte', withNix, async (t) => {
  const { document } = await loadPolicy(join(root, 'policy/default.nix'));
  const help = 'help: npx policy show --policy policy/default.nix | sed 1d > policy/default.json';
  t.equal(readFileSync(join(root, 'policy/default.json'), 'utf8'), canonicalText(document), help);
});

t.test('the shipped allowlist holds its own tests and has a reason and a group for every rule', async (t) => {
  const policy = await loadPolicy(join(root, 'policy/default.json'));
  t.same(runPolicyTests(policy), []);
  t.ok(policy.document.tests.length >= 10);
  t.same(
    policy.document.allow.filter(({ group }) => group === undefined),
    [],
  );
  t.same(policy.document.services, [], 'services belong to a project');
});

t.test(
  'a document from Nix is canonical already: the loader changes nothing but the layout',
  withNix,
  async (t) => {
    for (const file of ['policy/default.nix', ...globSync('examples/*.nix', { cwd: root })]) {
      const text = await evaluateNix(join(root, file));
      t.same(JSON.parse(canonicalText(parsePolicy(text).document)), JSON.parse(text), file);
    }
  },
);

t.test('the example policies are valid and hold their own tests', withNix, async (t) => {
  const files = globSync('examples/*.nix', { cwd: root });
  t.ok(files.length >= 2);
  for (const file of files) t.same(runPolicyTests(await loadPolicy(join(root, file))), [], file);
});

t.test('Nix and the loader agree which texts are hosts and which are aliases', withNix, async (t) => {
  const part = fc.oneof(
    { weight: 6, arbitrary: fc.stringMatching(/^[a-zA-Z0-9-]{0,6}$/) },
    fc.constantFrom(
      '0x1f',
      '0X',
      '127',
      'xn--bcher-kva',
      '',
      '-',
      'a_b',
      '\u00fc',
      ' ',
      '\n',
      '%',
      '/',
      ':',
      '*',
      'a'.repeat(63),
      'a'.repeat(64),
    ),
  );
  const text = fc.oneof(
    { weight: 4, arbitrary: fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('.')) },
    fc.string({ maxLength: 12 }).filter((each) => !each.includes('\0')),
    fc.integer({ min: 240, max: 260 }).map((length) => 'abcdefg.'.repeat(33).slice(0, length)),
  );
  const { seed } = fuzzParameters();
  const texts = fc.sample(text, { numRuns: 3000, ...(seed === undefined ? {} : { seed }) });
  const home = t.testdir({ 'texts.json': JSON.stringify(texts) });
  const { hosts, aliases } = nix(
    `{ file }: let checks = import ./policy/lib-checks.nix; texts = builtins.fromJSON (builtins.readFile file);
     in { hosts = map (text: checks.host text == null) texts; aliases = map (text: checks.alias text == null) texts; }`,
    '--argstr',
    'file',
    join(home, 'texts.json'),
  ) as { hosts: boolean[]; aliases: boolean[] };
  const isHost = (each: string): boolean => 'host' in canonicalHost(each);
  t.same(
    texts.filter((each, i) => !isPattern(each) && hosts[i] !== isHost(each)),
    [],
    'hosts',
  );
  t.same(
    texts.filter((each, i) => aliases[i] !== isAliasName(each)),
    [],
    'aliases',
  );
  t.ok(hosts.filter(Boolean).length > 300, 'the sample has many hosts');
});

const isPattern = (text: string): boolean => text.startsWith('*.');

interface Flake {
  readonly home: string;
  readonly run: (...args: string[]) => { status: number | null; stdout: string; stderr: string };
}

// Everything the flake reads, in a directory of its own with a store of its own: works without /nix and without rights.
function flake(t: Test): Flake {
  const home = mkdtempSync(join(tmpdir(), 'sallyport-flake-'));
  t.teardown(() => {
    spawnSync('chmod', ['-R', 'u+w', home]); // a store is read-only, even to its owner
    rmSync(home, { recursive: true });
  });
  const tree = join(home, 'tree');
  for (const file of [
    'flake.nix',
    'policy/default.json',
    ...globSync('{policy,test/policy}/*.nix', { cwd: root }),
  ]) {
    cpSync(join(root, file), join(tree, file));
  }
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    NIX_STORE_DIR: join(home, 'store'),
    NIX_STATE_DIR: join(home, 'state'),
    NIX_LOG_DIR: join(home, 'log'),
    // Nothing more than what flakes need: no builder is set up here, and no substituter is switched off.
    NIX_CONFIG: 'experimental-features = nix-command flakes',
  };
  return { home: tree, run: (...args) => spawnSync('nix', args, { cwd: tree, env, encoding: 'utf8' }) };
}

t.test(
  '`nix eval --json .#lib.egressDomains` is the document the proxy loads, offline',
  withFlakes,
  async (t) => {
    const { home, run } = flake(t);
    const { status, stdout, stderr } = run('eval', '--json', `path:${home}#lib.egressDomains`);
    t.equal(status, 0, stderr);
    t.equal(parsePolicy(stdout).digest, (await loadPolicy(join(root, 'policy/default.json'))).digest);
    t.throws(() => readFileSync(join(home, 'flake.lock')), 'no inputs, so no lock');
  },
);

t.test('`nix flake check` is green, and red when the committed copy drifts', withFlakes, async (t) => {
  const { home, run } = flake(t);
  const green = run('flake', 'check', `path:${home}`);
  t.equal(green.status, 0, green.stderr);
  const copy = join(home, 'policy/default.json');
  writeFileSync(copy, readFileSync(copy, 'utf8').replace('api.openai.com', 'api.openai.example'));
  const red = run('flake', 'check', `path:${home}`);
  t.not(red.status, 0);
  t.match(red.stderr, /policy\/default\.json is not what policy\/default\.nix compiles to/);
});

t.test('another flake can use the library for a policy of its own', withFlakes, async (t) => {
  const { home, run } = flake(t);
  const apply = 'lib: lib.document { allow."A.example.com." = "why"; }';
  const { status, stdout, stderr } = run('eval', '--json', `path:${home}#lib`, '--apply', apply);
  t.equal(status, 0, stderr);
  t.same(
    [...parsePolicy(stdout).document.allow],
    [{ id: 'allow/a.example.com', host: 'a.example.com', reason: 'why' }],
  );
});
