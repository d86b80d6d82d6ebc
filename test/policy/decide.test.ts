// The three gates beyond the corpus: what a grant holds, what cannot be forged, services of a run, explanations, flat cost.
import { performance } from 'node:perf_hooks';
import t from 'tap';
import {
  confirm,
  decide,
  explain,
  grant,
  isGrant,
  parsePolicy,
  parseServiceFlag,
  parseTarget,
  reasons,
  failureCodes,
  reasonsPage,
  targetOf,
  withServices,
  type CanonicalHost,
  type Decision,
  type EgressRequest,
  type Grant,
  type Policy,
} from '../../policy/index.ts';
import { addressOf } from '../helpers/address.ts';

const principal = { name: 'p' };
const policy = parsePolicy(
  JSON.stringify({
    allow: [
      { host: 'a.example.org', reason: 'r', limits: { upBytes: 5, downBytes: 7 } },
      { host: '*.w.example.org', reason: 'r' },
      { host: 'www.shop.example', reason: 'r' },
    ],
    deny: [{ host: 'b.example.org', reason: 'no' }],
    services: [{ name: 'db', host: 'db.corp.example', port: 5432, addresses: ['10.20.4.8/32'], reason: 'r' }],
    tests: [{ target: 'a.example.org', expect: 'allow' }],
  }),
);
const ask = (target: string): EgressRequest => ({ principal, target: parseTarget(target), mode: 'connect' });

function granted(
  from: Policy,
  request: EgressRequest,
  answers: readonly string[],
  own: readonly string[] = [],
): Grant {
  const result = grant(from, request, decide(from, request), answers.map(addressOf), own.map(addressOf));
  if ('verdict' in result) throw new Error(`refused: ${result.reason}: ${result.detail ?? ''}`);
  return result;
}

function refused(
  from: Policy,
  request: EgressRequest,
  answers: readonly string[],
  own: readonly string[] = [],
): Decision {
  const result = grant(from, request, decide(from, request), answers.map(addressOf), own.map(addressOf));
  if (!('verdict' in result)) throw new Error('granted');
  return result;
}

const serviceRequest = (from: Policy, name: string): EgressRequest => {
  const service = from.document.services.find((s) => s.name === name);
  return { principal, mode: 'service', service: name, target: targetOf(service ?? { host: '', port: 0 }) };
};

t.test('a grant holds exactly the judged addresses, and nobody can add one', async (t) => {
  const given = granted(policy, ask('A.example.org.:443'), ['93.184.215.14', '2606:4700::1111']);
  t.same(
    given.addresses.map(({ text }) => text),
    ['93.184.215.14', '2606:4700::1111'],
  );
  t.match(given, {
    port: 443,
    host: 'a.example.org',
    decision: { limits: { upBytes: 5, downBytes: 7 }, policy: policy.digest },
  });
  t.ok(Object.isFrozen(given) && Object.isFrozen(given.addresses) && Object.isFrozen(given.decision));
  t.throws(() => Array.prototype.push.call(given.addresses, addressOf('10.0.0.1')), TypeError);
});

// Held by the compiler (`npm run types`): without the private mark each of these lines would be an unused directive.
t.test(
  'a Grant cannot be written by hand nor made from another one, and one that was forced is told apart',
  async (t) => {
    const request = ask('a.example.org:443');
    const real = granted(policy, request, ['93.184.215.14']);
    const parts = { request, decision: real.decision, addresses: [], port: 443, host: 'evil.example' };
    // @ts-expect-error: a literal has no mark
    const literal: Grant = parts;
    // @ts-expect-error: a spread of a real one leaves the mark behind
    const spread: Grant = { ...real, addresses: [] }; // oxlint-disable-line typescript/no-misused-spread
    // @ts-expect-error: a text is no canonical host until canonicalHost() has read it
    const raw: CanonicalHost = 'evil.example';
    t.equal(raw, 'evil.example');
    t.same([real, literal, spread, Object.create(real) as Grant].map(isGrant), [true, false, false, false]);
  },
);

t.test('a made-up allow decision opens nothing', async (t) => {
  const request = ask('evil.example:443');
  const honest = decide(policy, ask('a.example.org:443'));
  t.match(grant(policy, request, honest, [addressOf('93.184.215.14')], []), {
    verdict: 'deny',
    reason: 'no_rule_matched',
  });
  t.throws(
    () => grant(parsePolicy('{}'), request, honest, [], []),
    /another/,
    'a decision is not taken to another policy',
  );
});

t.test('a refused address is named with its reason', async (t) => {
  t.match(refused(policy, ask('a.example.org:443'), ['93.184.215.14', '10.0.0.1']), {
    reason: 'address_not_public',
    rule: { id: 'allow/a.example.org' },
    detail: '`10.0.0.1` is private (RFC 1918)',
  });
});

t.test('confirm gives the same decision back, or a denial that keeps the rule', async (t) => {
  const given = granted(policy, ask('a.example.org:443'), ['93.184.215.14']);
  t.equal(confirm(given, { kind: 'server_name', name: 'a.example.org', ech: false }), given.decision);
  t.match(confirm(given, { kind: 'server_name', name: '\u001b[2Jx', ech: false }), {
    verdict: 'deny',
    reason: 'server_name_mismatch',
    rule: { id: 'allow/a.example.org' },
    detail: /^[\x20-\x7e]+$/,
  });
});

t.test('--service takes one alias, one host and one port', async (t) => {
  const bad = [
    'db=10.0.0.0/8:5432',
    'db=*:5432',
    'db=h:1-9',
    'db=h.example:1-9',
    'db=*.corp.example:5432',
    'db=db.corp.example',
    'db.corp.example:5432',
    '=db.corp.example:5432',
    'DB=db.corp.example:5432',
    'd b=db.corp.example:5432',
    'localhost=db.corp.example:5432',
    'db=2130706433:80',
    'db=0x7f.1:80',
    'db=127.1:80',
    'db=0.0.0.0:80',
    'db=169.254.169.254:80',
    'db=[::]:80',
    'db=[fe80::1]:80',
    'db=::1:80',
    'db=[::ffff:127.0.0.1]:80',
    'db=u@h.example:1',
    'db=h.example:53',
    'db=h.example:5432@0.0.0.0/0',
    'db=h.example:5432@10.0.0.1/8',
    'db=h.example:5432@127.0.0.0/8',
    'db=10.0.0.1:80@10.0.0.0/8',
    'db=',
    '',
  ];
  for (const text of bad) t.throws(() => parseServiceFlag(text), { message: /\nhelp: / }, text);
  t.match(parseServiceFlag('db=DB.corp.example.:5432'), {
    name: 'db',
    host: 'db.corp.example',
    port: 5432,
    id: 'service/db',
  });
  t.match(parseServiceFlag('db=h.corp.example:5432@10.20.4.8,10.21.0.0/16'), {
    addresses: ['10.20.4.8/32', '10.21.0.0/16'],
  });
  t.equal(parseServiceFlag('db=[fd00::1]:80').host, 'fd00::1');
  t.equal(parseServiceFlag('db=10.0.0.1:80').loopback, undefined);
  t.equal(parseServiceFlag('web=127.0.0.1:3000').loopback, true);
});

t.test('a service of a run is admitted by that run only', async (t) => {
  const mine = withServices(policy, [parseServiceFlag('ci=10.0.0.9:8080')]);
  t.not(mine.digest, policy.digest);
  t.equal(granted(mine, serviceRequest(mine, 'ci'), ['10.0.0.9']).port, 8080);
  t.match(decide(policy, serviceRequest(mine, 'ci')), { verdict: 'deny', reason: 'no_rule_matched' });
  t.equal(
    granted(mine, serviceRequest(mine, 'db'), ['10.20.4.8']).host,
    'db.corp.example',
    'the services of the policy stay',
  );
  t.equal(withServices(policy, []), policy);
  t.throws(
    () => withServices(policy, [parseServiceFlag('db=x.example.org:1')]),
    { code: 'policy_invalid' },
    'a taken alias',
  );
  const shared = withServices(policy, [parseServiceFlag('x=10.0.0.9:5432')]);
  const hosts = ['db', 'x'].map((name) => decide(shared, serviceRequest(shared, name)).host);
  t.same(hosts, ['db.corp.example', '10.0.0.9'], 'a port may be shared: the alias tells them apart');
  const denied = withServices(policy, [parseServiceFlag('b=b.example.org:1000')]);
  t.match(decide(denied, serviceRequest(denied, 'b')), { reason: 'rule_denied' });
});

t.test(
  'loopback of the proxy host is reached by a service of a run that names it, by nothing else',
  async (t) => {
    const mine = withServices(policy, [
      parseServiceFlag('web=127.0.0.1:3000'),
      parseServiceFlag('git=git.example.org:22'),
    ]);
    const own = ['127.0.0.1', '10.0.0.5'];
    t.equal(granted(mine, serviceRequest(mine, 'web'), ['127.0.0.1'], own).port, 3000);
    t.equal(
      refused(mine, serviceRequest(mine, 'web'), ['127.0.0.2'], own).reason,
      'address_not_public',
      'a literal pins itself',
    );
    t.equal(
      refused(mine, serviceRequest(mine, 'web'), ['10.0.0.5'], own).reason,
      'address_not_public',
      'another own address',
    );
    t.equal(refused(mine, serviceRequest(mine, 'git'), ['127.0.0.1'], own).reason, 'address_not_public');
    t.equal(refused(mine, ask('a.example.org:443'), ['127.0.0.1'], []).reason, 'address_not_public');
    const named = withServices(policy, [{ ...parseServiceFlag('dev=dev.example.org:3000'), loopback: true }]);
    t.equal(granted(named, serviceRequest(named, 'dev'), ['127.0.0.1'], own).host, 'dev.example.org');
    t.equal(
      refused(named, serviceRequest(named, 'dev'), ['169.254.169.254'], own).reason,
      'address_not_public',
    );
  },
);

t.test('an explanation names the host that was meant', async (t) => {
  const meant = (target: string): string | undefined =>
    explain(policy, decide(policy, ask(target))).didYouMean;
  t.equal(meant('www.a.example.org:443'), 'a.example.org', 'the apex');
  t.equal(meant('shop.example:443'), 'www.shop.example', 'the www name');
  t.equal(meant('a.exmaple.org:443'), 'a.example.org', 'two letters swapped');
  t.equal(meant('a.example.org:80'), 'a.example.org:443', 'another port');
  t.equal(meant('quite.different.net:443'), undefined);
  t.equal(meant('b.example.org:443'), undefined, 'a denied host gets no suggestion');
  const { hint } = explain(policy, decide(policy, ask('w.example.org:443')));
  t.match(hint, /`\*\.w\.example\.org` is allowed, but/);
  t.match(
    explain(policy, decide(policy, ask('db.corp.example:5432'))).hint,
    /the service `db`: connect to `db:5432`/,
  );
  t.match(
    explain(policy, decide(policy, ask('x.net:8443'))).howToRequest,
    /allow\."x\.net" = \{ ports = \[ 8443 \]/,
  );
});

t.test('a suggestion never names a host that a deny rule refuses', async (t) => {
  const tricky = parsePolicy(
    JSON.stringify({
      allow: [{ host: 'ab.example.org', reason: 'r' }],
      deny: [{ host: '*.example.org', reason: 'no' }],
    }),
  );
  t.equal(explain(tricky, decide(tricky, ask('ab.examples.org:443'))).didYouMean, undefined);
});

t.test(
  'every reason and failure code stands in the generated page once, with a sentence and a hint',
  async (t) => {
    const page = reasonsPage();
    const rows = [...reasons, ...failureCodes];
    t.same(
      rows.filter(({ name }) => page.split(`| \`${name}\` |`).length !== 2).map(({ name }) => name),
      [],
    );
    t.same(
      rows.filter(({ sentence, hint }) => !/^[A-Z].*\.$/.test(sentence) || !/^[A-Z].*\.$/.test(hint)),
      [],
    );
    t.same(
      reasons.filter(({ verdict }) => verdict === 'allow').map(({ name }) => name),
      ['rule_matched', 'service_matched'],
    );
    t.equal(new Set(rows.map(({ name }) => name)).size, rows.length);
  },
);

// Compared with itself, not with a clock: a linear search or a RegExp per rule would be a thousand times slower.
t.test(
  'a decision costs the same under 10 rules and under 10,000, and no name makes it slow (ReDoS, row 69)',
  async (t) => {
    const ofSize = (size: number): Policy =>
      parsePolicy(
        JSON.stringify({
          allow: Array.from({ length: size }, (_, i) => ({
            host: `${i % 2 === 0 ? '*.' : ''}h${i}.example.org`,
            reason: 'r',
          })),
        }),
      );
    const hostile = parseTarget(`${'a.'.repeat(120)}h7x.example.org:443`);
    const median = (of: Policy): number => {
      const request: EgressRequest = { principal, target: hostile, mode: 'connect' };
      const times = Array.from({ length: 41 }, () => {
        const start = performance.now();
        for (let i = 0; i < 200; i += 1) decide(of, request);
        return performance.now() - start;
      });
      return times.toSorted((a, b) => a - b)[20] ?? 0;
    };
    const [few, many] = [ofSize(10), ofSize(10_000)];
    median(few);
    median(many);
    t.ok(median(many) < 20 * median(few), 'no search through the rules');
  },
);
