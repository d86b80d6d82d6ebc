// From text to policy: what is refused, that everything is said at once, and the canonical form (failures.md 2, 12, 38, 68).
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  canonicalText,
  decide,
  loadPolicy,
  parsePolicy,
  parseTarget,
  PolicyError,
  type Policy,
  type Problem,
} from '../../policy/index.ts';

const rule = (extra: object = {}): object => ({ host: 'a.example.org', reason: 'r', ...extra });
const allow = (...rules: object[]): string => JSON.stringify({ allow: rules });
const service = (extra: object = {}): string =>
  JSON.stringify({ services: [{ name: 'db', host: 'db.corp.example', port: 5432, reason: 'r', ...extra }] });

function problemsOf(text: string): readonly Problem[] {
  try {
    parsePolicy(text);
    return [];
  } catch (error) {
    if (error instanceof PolicyError) return error.problems;
    throw error;
  }
}

const pointersOf = (text: string): string[] => problemsOf(text).map(({ pointer }) => pointer);

function verdictOf(policy: Policy, target: string): string {
  return decide(policy, { principal: { name: 'p' }, target: parseTarget(target), mode: 'connect' }).reason;
}

t.test(
  'an empty object is a policy that denies; an empty file, a list and null are errors (CVE-2025-66479, row 2)',
  async (t) => {
    t.equal(verdictOf(parsePolicy('{}'), 'github.com:443'), 'no_rule_matched');
    t.equal(verdictOf(parsePolicy('{"version":1,"allow":[]}'), 'github.com:443'), 'no_rule_matched');
    for (const text of [
      '',
      ' \n',
      '[]',
      'null',
      'true',
      '"x"',
      '0',
      '{',
      '{} {}',
      '{"allow":{}}',
      '{"allow":null}',
      '{"version":2}',
      '\ufeff{}',
    ]) {
      t.throws(() => parsePolicy(text), { code: 'policy_invalid' }, JSON.stringify(text));
    }
    t.match(problemsOf('')[0], { message: 'the file is empty', help: /\{\}/ });
  },
);

t.test('a file that is missing, huge or not UTF-8 is an error with help', async (t) => {
  const dir = t.testdir({ 'zero.json': '', 'good.json': '{}' });
  t.match(await loadPolicy(join(dir, 'good.json')), { document: { allow: [] } });
  await t.rejects(loadPolicy(join(dir, 'none.json')), { message: /does not exist\nhelp: / });
  await t.rejects(loadPolicy(dir), { message: /cannot be read.*\nhelp: /s });
  await t.rejects(loadPolicy(join(dir, 'zero.json')), { code: 'policy_invalid' });
  writeFileSync(join(dir, 'latin1.json'), Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]));
  await t.rejects(loadPolicy(join(dir, 'latin1.json')), { message: /cannot be read.*\nhelp: /s });
  writeFileSync(join(dir, 'huge.json'), Buffer.alloc(32 * 2 ** 20 + 1, ' '));
  await t.rejects(loadPolicy(join(dir, 'huge.json')), { message: /larger than/ });
});

t.test('a text of millions of brackets is refused before it is built', async (t) => {
  t.match(problemsOf(`[${'{},'.repeat(1_000_001)}{}]`), [{ message: /more than 2000000 values/ }]);
});

t.test('all errors come at once, each with its pointer, its Nix attribute and help', async (t) => {
  const text = JSON.stringify({
    extra: 1,
    allow: [
      { hots: 'x', reason: 'typo' },
      { host: 'API.example.org', group: 'github', reason: 'upper case' },
      rule({ ports: [443, 0, 25] }),
      { host: '*.github.io', reason: 'public suffix' },
    ],
    services: [{ name: 'DB', host: '10.0.0.0/8', port: 1, reason: 'a range' }],
  });
  const problems = problemsOf(text);
  t.same(problems.map(({ pointer }) => pointer).toSorted(), [
    '/allow/0',
    '/allow/0/hots',
    '/allow/1/host',
    '/allow/2/ports/1',
    '/allow/3/host',
    '/extra',
    '/services/0/host',
    '/services/0/name',
  ]);
  t.same(
    problems.filter(({ help, message }) => help === '' || message === '' || /^[A-Z]|\.$/.test(message)),
    [],
  );
  t.match(
    problems.find(({ pointer }) => pointer === '/allow/1/host'),
    {
      nix: 'groups."github".allow."API.example.org".host',
      help: 'write `api.example.org`',
    },
  );
  t.match(
    problems.find(({ pointer }) => pointer === '/allow/0/hots'),
    { help: /did you mean "host"\?/ },
  );
  t.match(new PolicyError(problems).message, /the policy has 8 problems\n[^]*help: /);
});

t.test('what cannot be enforced is a load error at its place', async (t) => {
  const rows: readonly (readonly [text: string, pointer: string])[] = [
    [allow(rule({ host: 'a.example.org.' })), '/allow/0/host'],
    [allow(rule({ host: 'A.example.org' })), '/allow/0/host'],
    [allow(rule({ host: 'bücher.example' })), '/allow/0/host'],
    [allow(rule({ host: 'localhost' })), '/allow/0/host'],
    [allow(rule({ host: '10.0.0.1' })), '/allow/0/host'],
    [allow(rule({ host: '10.0.0.0/8' })), '/allow/0/host'],
    [allow(rule({ host: '[::1]' })), '/allow/0/host'],
    [allow(rule({ host: 'a.example.org:443' })), '/allow/0/host'],
    [allow(rule({ host: 'https://a.example.org/' })), '/allow/0/host'],
    [allow(rule({ host: '*' })), '/allow/0/host'],
    [allow(rule({ host: '*.' })), '/allow/0/host'],
    [allow(rule({ host: '**.example.org' })), '/allow/0/host'],
    [allow(rule({ host: '*.*.example.org' })), '/allow/0/host'],
    [allow(rule({ host: 'a.*.example.org' })), '/allow/0/host'],
    [allow(rule({ host: 'a*.example.org' })), '/allow/0/host'],
    [allow(rule({ host: '*example.org' })), '/allow/0/host'],
    [allow(rule({ host: '*.Example.org' })), '/allow/0/host'],
    [allow(rule({ host: '*.example.org.' })), '/allow/0/host'],
    [allow(rule({ host: '.example.org' })), '/allow/0/host'],
    [allow(rule({ host: '^a\\.example$' })), '/allow/0/host'],
    [allow(rule({ host: '*.run.app' })), '/allow/0/host'],
    [allow(rule({ host: '*.com' })), '/allow/0/host'],
    [allow(rule({ host: '*.co.uk' })), '/allow/0/host'],
    [allow(rule({ host: '*.s3.amazonaws.com' })), '/allow/0/host'],
    [allow(rule({ host: '*.internal' })), '/allow/0/host'],
    [allow(rule({ host: '*.sch.uk' })), '/allow/0/host'],
    [allow(rule({ ports: [] })), '/allow/0/ports'],
    [allow(rule({ ports: [0] })), '/allow/0/ports/0'],
    [allow(rule({ ports: [65_536] })), '/allow/0/ports/0'],
    [allow(rule({ ports: ['443'] })), '/allow/0/ports/0'],
    [allow(rule({ ports: [443.5] })), '/allow/0/ports/0'],
    [allow(rule({ ports: [443, 443] })), '/allow/0/ports/1'],
    [allow(rule({ ports: [25] })), '/allow/0/ports/0'],
    [allow(rule({ ports: [443, 53] })), '/allow/0/ports/1'],
    [allow(rule({ ports: [853] })), '/allow/0/ports/0'],
    [allow(rule({ protocol: 'tcp' })), '/allow/0/protocol'],
    [allow(rule({ protocol: 'http', ech: 'allow' })), '/allow/0/ech'],
    [allow(rule({ addresses: [] })), '/allow/0/addresses'],
    [allow(rule({ addresses: ['10.0.0.0/8', '10.0.0.0/8'] })), '/allow/0/addresses/1'],
    [allow(rule({ reviewBy: '2027-02-30' })), '/allow/0/reviewBy'],
    [allow(rule({ reviewBy: 'soon' })), '/allow/0/reviewBy'],
    [allow(rule({ reason: '' })), '/allow/0/reason'],
    [allow(rule({ reason: '  ' })), '/allow/0/reason'],
    [allow(rule({ reason: 'a\nb' })), '/allow/0/reason'],
    [allow(rule({ reason: '\u001b[2Jx' })), '/allow/0/reason'],
    [allow(rule({ group: 'g\u0000' })), '/allow/0/group'],
    [allow(rule({ id: 'with space' })), '/allow/0/id'],
    [allow(rule({ limits: {} })), '/allow/0/limits'],
    [allow(rule({ limits: { upBytes: 0 } })), '/allow/0/limits/upBytes'],
    [allow(rule({ limits: { perDay: 1 } })), '/allow/0/limits/perDay'],
    [allow({ host: 'a.example.org' }), '/allow/0'],
    [allow(rule(), rule()), '/allow/1/host'],
    [allow(rule(), rule({ host: 'b.example.org', id: 'allow/a.example.org' })), '/allow/1/id'],
    [JSON.stringify({ deny: [rule({ ports: [443] })] }), '/deny/0/ports'],
    [JSON.stringify({ allow: [rule()], deny: [rule()] }), '/allow/0/host'],
    [JSON.stringify({ profiles: {} }), '/profiles'],
    [JSON.stringify({ tests: [{ target: 'a b', expect: 'allow' }] }), '/tests/0/target'],
    [JSON.stringify({ tests: [{ target: 'a.b', expect: 'maybe' }] }), '/tests/0/expect'],
    [service({ host: '10.0.0.0/8' }), '/services/0/host'],
    [service({ host: '*' }), '/services/0/host'],
    [service({ host: '*.corp.example' }), '/services/0/host'],
    [service({ host: 'DB.corp.example' }), '/services/0/host'],
    [service({ host: '127.0.0.1' }), '/services/0/host'],
    [service({ host: '::1' }), '/services/0/host'],
    [service({ host: '169.254.169.254' }), '/services/0/host'],
    [service({ host: '0.0.0.0' }), '/services/0/host'],
    [service({ host: '::ffff:10.0.0.1' }), '/services/0/host'],
    [service({ host: '2130706433' }), '/services/0/host'],
    [service({ host: '10.0.0.1', addresses: ['10.0.0.0/8'] }), '/services/0/addresses'],
    [service({ addresses: ['127.0.0.0/8'] }), '/services/0/addresses/0'],
    [service({ port: [1, 9] }), '/services/0/port'],
    [service({ port: '5432' }), '/services/0/port'],
    [service({ port: 53 }), '/services/0/port'],
    [service({ name: 'localhost' }), '/services/0/name'],
    [service({ name: 'DB' }), '/services/0/name'],
    [service({ name: 'db.svc' }), '/services/0/name'],
    [service({ name: '42' }), '/services/0/name'],
    [service({ loopback: true }), '/services/0/loopback'],
  ];
  for (const [text, pointer] of rows) t.same(pointersOf(text), [pointer], text);
});

t.test('two services may have one port, and not one name', async (t) => {
  const entry = { host: 'db.corp.example', port: 5432, reason: 'r' };
  t.same(
    pointersOf(
      JSON.stringify({
        services: [
          { ...entry, name: 'a' },
          { ...entry, name: 'b' },
        ],
      }),
    ),
    [],
  );
  t.same(
    pointersOf(
      JSON.stringify({
        services: [
          { ...entry, name: 'a' },
          { ...entry, name: 'a', port: 1 },
        ],
      }),
    ),
    ['/services/1/name'],
  );
});

t.test('a risk that is accepted in words loads', async (t) => {
  for (const extra of [{ host: '*.github.io' }, { host: '*.internal' }, { ports: [25, 53, 853] }]) {
    t.same(pointersOf(allow(rule({ ...extra, acceptRisk: 'because' }))), [], JSON.stringify(extra));
  }
  t.same(pointersOf(service({ port: 53, acceptRisk: 'because' })), []);
  t.same(
    pointersOf(JSON.stringify({ deny: [rule({ host: '*.github.io' }), rule({ host: '*.com' })] })),
    [],
    'denying much is no risk',
  );
  t.same(pointersOf(allow(rule({ host: '*.example.org' }))), [], 'a wildcard over a registered name is none');
});

t.test(
  'no text of a policy can start a line or an escape sequence elsewhere (config injection, AWF #1517, row 13)',
  async (t) => {
    const odd = [
      'a.example.org\n.evil.net',
      'a.example.org evil.net',
      'a.example.org\u0000',
      'a.example.org\u001b[31m',
      'a.example.org\u009b31m',
      'a.example.org\u2028',
    ];
    for (const host of odd) {
      const text = JSON.stringify({
        allow: [rule({ host }), rule({ host })],
        deny: [rule({ host })],
        services: [{ name: host, host, port: 1, reason: 'r' }],
      });
      const { message } = new PolicyError(problemsOf(text));
      t.match(message, /^the policy has \d+ problems\n/);
      t.match(message, /^[\x20-\x7e\n§]*$/, encodeURIComponent(host));
    }
  },
);

t.test('a key that stands twice is refused, in any spelling and at any depth', async (t) => {
  const rows: readonly (readonly [text: string, pointer: string])[] = [
    ['{"allow":[],"allow":[]}', '/allow'],
    ['{"allow":[],"\\u0061llow":[]}', '/allow'],
    ['{"allow":[{"host":"a.b","reason":"x","host":"c.d"}]}', '/allow/0/host'],
    ['{"allow":[{},{"limits":{"upBytes":1,"upBytes":2}}]}', '/allow/1/limits/upBytes'],
    ['{"a/b":1,"a/b":2}', '/a~1b'],
    ['{"__proto__":1,"__proto__":2}', '/__proto__'],
  ];
  for (const [text, pointer] of rows)
    t.same(
      problemsOf(text).map((p) => p.pointer),
      [pointer],
      text,
    );
  const strings = '{"allow":[{"host":"a.example.org","reason":"\\"host\\": \\\\ {[,]}","group":"reason"}]}';
  t.same(pointersOf(strings), [], 'what looks like a key inside a text is none');
});

t.test('prototype words are plain names or plain errors, never lookups (row 68)', async (t) => {
  for (const key of ['__proto__', 'constructor', 'hasOwnProperty', 'toString']) {
    t.same(pointersOf(`{"${key}":{}}`), [`/${key}`], 'as a key of the document');
    t.same(
      pointersOf(`{"allow":[{"host":"a.example.org","reason":"r","${key}":1}]}`),
      [`/allow/0/${key}`],
      'as a key of a rule',
    );
    const policy = parsePolicy(
      allow(rule({ group: key, id: key }), rule({ host: `x.${key.toLowerCase().replaceAll('_', '')}` })),
    );
    t.equal(policy.document.allow.find(({ id }) => id === key)?.group, key, 'as a group and an id');
    t.equal(
      verdictOf(policy, `x.${key.toLowerCase().replaceAll('_', '')}:443`),
      'rule_matched',
      'as a label',
    );
    t.equal(
      verdictOf(parsePolicy('{}'), `${key.replaceAll('_', '')}.${key.replaceAll('_', '')}:443`),
      'no_rule_matched',
    );
  }
  t.equal(Object.prototype.toString.call({}), '[object Object]', 'nothing was polluted');
});

t.test('the canonical form is byte-equal for equal meaning and has a digest', async (t) => {
  const one = parsePolicy(
    '{"allow":[{"reason":"b","host":"b.example.org","ports":[8443,443]},{"host":"a.example.org","reason":"a","ports":[443],"protocol":"tls"}],"deny":[]}',
  );
  const two = parsePolicy(
    '{"tests":[],"version":1,"allow":[{"id":"allow/a.example.org","host":"a.example.org","reason":"a"},\n {"host":"b.example.org","ports":[443,8443],"reason":"b"}]}',
  );
  t.equal(canonicalText(one.document), canonicalText(two.document));
  t.equal(one.digest, two.digest);
  t.match(one.digest, /^[0-9a-f]{64}$/);
  t.not(one.digest, parsePolicy('{}').digest);
  t.equal(
    canonicalText(parsePolicy('{}').document),
    '{\n  "allow": [],\n  "deny": [],\n  "services": [],\n  "tests": [],\n  "version": 1\n}\n',
  );
  t.equal(
    parsePolicy(allow(rule({ protocol: 'http', ports: [80] }))).digest,
    parsePolicy(allow(rule({ protocol: 'http' }))).digest,
  );
});

t.test('a compiled policy cannot be changed', async (t) => {
  const policy = parsePolicy(allow(rule({ ports: [443, 8443] })));
  t.throws(() => Object.assign(policy, { digest: 'x' }), TypeError);
  t.throws(() => Object.assign(policy.document.allow[0] ?? {}, { host: 'evil.example' }), TypeError);
  t.throws(() => Array.prototype.push.call(policy.document.allow, {}), TypeError);
  t.equal(verdictOf(policy, 'evil.example:443'), 'no_rule_matched');
});

t.test('the shipped policy loads, holds its own tests and is in its canonical form', async (t) => {
  const policy = await loadPolicy(join(import.meta.dirname, '../../policy/default.json'));
  t.equal(verdictOf(policy, 'api.anthropic.com:443'), 'rule_matched');
  t.equal(parsePolicy(canonicalText(policy.document)).digest, policy.digest);
});
