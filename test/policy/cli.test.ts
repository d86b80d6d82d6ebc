// The command `policy` as a person runs it: exit status, what goes to stdout and to stderr. Decisions are in cases/.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { loadPolicy, type Decision } from '../../policy/index.ts';

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const root = join(import.meta.dirname, '../..');

async function policy(...args: string[]): Promise<Ran> {
  const run = promisify(execFile)(join(root, 'policy/bin.sh'), args, { cwd: '/' });
  return await run.then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: unknown) => error as Ran,
  );
}

const files = t.testdir({
  'good.json': JSON.stringify({
    allow: [
      { host: 'a.example.org', group: 'base', reason: 'why not' },
      { host: 'p.example.org', protocol: 'http', reason: 'plain' },
    ],
    deny: [{ host: 'b.example.org', reason: 'no' }],
    services: [{ name: 'db', host: 'db.corp.example', port: 5432, reason: 'data' }],
    tests: [{ target: 'a.example.org', expect: 'allow' }],
  }),
  'failing.json': JSON.stringify({ tests: [{ target: 'a.example.org:443', expect: 'allow' }] }),
  'bad.json': '{"allow":[{"hots":"x"}]}',
  'zero.json': '',
  'keyed.json': '{"allow": {"github.com": "code"}, "tests": {}}',
  'empty.json': '{}',
});
const file = (name: string): string => join(files, name);

t.test('check exits 0 when all is allowed and 1 when anything is denied', async (t) => {
  const [allowed, denied, mixed] = await Promise.all([
    policy('check', 'github.com'),
    policy('check', 'evil.example'),
    policy('check', 'api.github.com', 'evil.example', 'gist.github.com:22', '--json'),
  ]);
  t.match(allowed, { code: 0, stdout: /^allow {2}github\.com:443 {2}rule_matched\n/, stderr: '' });
  t.match(denied, { code: 1, stdout: /^deny {3}evil\.example:443 {2}no_rule_matched\n/, stderr: '' });
  t.equal(mixed.code, 1);
  const answers = JSON.parse(mixed.stdout) as Decision[];
  t.same(
    answers.map(({ host, port, verdict, reason }) => [host, port, verdict, reason]),
    [
      ['api.github.com', 443, 'allow', 'rule_matched'],
      ['evil.example', 443, 'deny', 'no_rule_matched'],
      ['gist.github.com', 22, 'deny', 'no_rule_matched'],
    ],
  );
});

t.test('check prints canonical name, verdict, reason, rule, group and why', async (t) => {
  const { stdout } = await policy(
    'check',
    'A.Example.ORG.',
    'b.example.org',
    'c',
    '--policy',
    file('good.json'),
  );
  t.match(stdout, /allow {2}a\.example\.org:443 {2}rule_matched/);
  t.match(stdout, /rule: allow\/a\.example\.org \(a\.example\.org\), group base\n +why: why not/);
  t.match(stdout, /deny {3}b\.example\.org:443 {2}rule_denied/);
  t.match(stdout, /deny {3}`c` {2}request_malformed/);
  t.match(stdout, /addresses and the TLS server name are judged when a tunnel opens/);
});

t.test('bad use and a bad policy exit 2 with help on stderr and nothing on stdout', async (t) => {
  const uses = [
    ['check'],
    ['check', '--bogus', 'x'],
    ['bogus'],
    ['check', 'a.example.org', '--policy', file('none.json')],
    ['check', 'a.example.org', '--policy', file('bad.json')],
    ['validate', file('bad.json')],
    ['validate', file('zero.json')],
    ['list', '--policy', file('bad.json')],
  ];
  const runs = await Promise.all(uses.map(async (args) => await policy(...args)));
  for (const [i, run] of runs.entries())
    t.match(run, { code: 2, stdout: '', stderr: /help: / }, String(uses[i]));
  t.match(runs[5]?.stderr, /\/allow\/0\/hots: `hots` is not a key here\n {2}help: did you mean "host"\?/);
});

t.test('validate says what a good file holds', async (t) => {
  t.match(await policy('validate', file('good.json')), {
    code: 0,
    stdout: /^ok: .*\(2 allow, 1 deny, 1 services, 1 tests\)\ndigest: [0-9a-f]{64}\nnote: /,
  });
  t.match(await policy('validate', file('empty.json')), { code: 0 });
  t.match(JSON.parse((await policy('validate', '--json')).stdout), { valid: true });
});

t.test('a rule for plain HTTP is valid, and validate says what it costs', async (t) => {
  const text = /\nnote: rule `allow\/p\.example\.org` is for plain HTTP: whoever is on the way can read/;
  t.match(await policy('validate', file('good.json')), { code: 0, stdout: text });
  t.match(await policy('validate', file('empty.json')), { stdout: /^ok: .*\ndigest: [0-9a-f]{64}\n$/ });
  const { stdout } = await policy('validate', file('good.json'), '--json');
  t.match(JSON.parse(stdout), { notes: [/^rule `allow\/p\.example\.org`/] });
  const asked = ['check', 'p.example.org', '--policy', file('good.json'), '--json'];
  const said = await Promise.all([
    policy(...asked, '--mode', 'http'),
    policy(...asked),
    policy(...asked, '--mode', 'ftp'),
  ]);
  t.match(JSON.parse(said[0].stdout), [{ verdict: 'allow', port: 80, mode: 'http' }]);
  t.match(JSON.parse(said[1].stdout), [{ verdict: 'deny', port: 443, mode: 'connect' }]);
  t.match(said[2], { code: 2, stderr: /Allowed choices are connect, socks5, http/ });
});

t.test(
  'a document with names as keys is shown the list form, and told that the short form is Nix',
  async (t) => {
    const { stderr } = await policy('validate', file('keyed.json'));
    t.match(stderr, /\/allow: .* is not a list\n {2}help: write a list, as in \[\{"host": "[^\n]*\.nix file/);
    t.match(stderr, /\/tests: .* is not a list\n {2}help: write a list, as in \[\{"target": "/);
  },
);

t.test('a host that is not ASCII is refused with its ACE spelling, as text and as JSON', async (t) => {
  const [said, json] = await Promise.all([
    policy('check', 'bücher.example'),
    policy('check', 'bücher.example:8443', '--json'),
  ]);
  t.match(said, { code: 1, stdout: /hint: write the ACE form `xn--bcher-kva\.example`\n/ });
  t.notMatch(said.stdout, /more: |lower-case/);
  t.match(JSON.parse(json.stdout), [{ hint: 'write the ACE form `xn--bcher-kva.example`' }]);
});

t.test('a URL is answered with its host and port, a single label with the host it begins', async (t) => {
  const targets = {
    'https://github.com/foo': 'github.com:443',
    'HTTP://GitHub.com.?x=1': 'github.com:80',
    'https://github.com:8443': 'github.com:8443',
    github: 'github.com:443',
    'GitHub:22': 'github.com:443',
    'https://user:secret@github.com/': undefined,
    'https://192.0.2.1/': undefined,
    'https://https://github.com': undefined,
    nothing: undefined,
    '': undefined,
  };
  const { stdout } = await policy('check', ...Object.keys(targets), '--json');
  const answers = JSON.parse(stdout) as { didYouMean?: string }[];
  t.same(
    answers.map(({ didYouMean }) => didYouMean),
    Object.values(targets),
  );
  t.match((await policy('check', 'https://github.com/foo')).stdout, /\n +did you mean: github\.com:443\n/);
});

t.test('--version is that of the package', async (t) => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  t.match(await policy('--version'), { code: 0, stdout: `${version}\n`, stderr: '' });
});

t.test('show prints the policy in force with its digest (row 71)', async (t) => {
  const { stdout } = await policy('show', '--json', '--policy', file('good.json'));
  const { digest, document } = await loadPolicy(file('good.json'));
  t.same(JSON.parse(stdout), { policy: digest, document });
  t.ok((await policy('show')).stdout.startsWith('digest: '));
});

t.test('test exits 1 when the policy breaks a test of its own', async (t) => {
  t.match(await policy('test', '--policy', file('good.json')), { code: 0, stdout: '1 of 1 hold\n' });
  t.match(await policy('test', '--policy', file('failing.json')), {
    code: 1,
    stdout: 'failed: `a.example.org:443`: expected allow, got deny (no_rule_matched)\n0 of 1 hold\n',
  });
  t.match(await policy('test', '--policy', file('empty.json')), { code: 0, stdout: /no tests/ });
});

t.test('list has one line for each rule and service', async (t) => {
  const { stdout } = await policy('list', '--policy', file('good.json'));
  t.same(
    stdout.split('\n').map((line) => line.split(/ {2,}/)),
    [
      ['allow', 'a.example.org', 'tls/443', 'base', 'why not'],
      ['allow', 'p.example.org', 'http/80', '-', 'plain'],
      ['service', 'db -> db.corp.example:5432', 'tcp', '-', 'data'],
      ['deny', 'b.example.org', 'all', '-', 'no'],
      [''],
    ],
  );
  t.equal((await policy('list', '--policy', file('empty.json'))).stdout, 'nothing is allowed\n');
});

t.test('every command has --help with examples and the exit status', async (t) => {
  const commands = [[], ['check'], ['validate'], ['show'], ['test'], ['list']];
  const helps = await Promise.all(commands.map(async (name) => await policy(...name, '--help')));
  for (const [i, help] of helps.entries()) {
    t.match(
      help,
      { code: 0, stdout: /Exit status: 0 .* 1 .* 2 [^]*Examples:\n {2}policy / },
      String(commands[i]),
    );
  }
});
