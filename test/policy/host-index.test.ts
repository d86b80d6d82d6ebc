// The index over the canonical text against a plain search through the document: same rule for every host, whatever the text says.
import fc from 'fast-check';
import t from 'tap';
import {
  decide,
  openImage,
  parsePolicy,
  parseTarget,
  withServices,
  type Decision,
  type Policy,
} from '../../policy/index.ts';
import { emptyHash, hashLeft } from '../../policy/host-hash.ts';
import { assertHolds } from '../helpers/fuzz.ts';

interface Rule {
  readonly host: string;
  readonly reason: string;
  readonly acceptRisk?: string;
  readonly ports?: readonly number[];
}

interface Document {
  readonly allow: readonly Rule[];
  readonly deny: readonly Rule[];
}

const ask = (policy: Policy, host: string, port = 443): Decision =>
  decide(policy, { principal: { name: 'p' }, target: parseTarget(`${host}:${port}`), mode: 'connect' });

/** Few labels, so that names meet; many of them, so that names are deep. */
const label = fc.constantFrom('a', 'b', 'ab', 'x-1', '0');
const name = fc
  .array(label, { minLength: 1, maxLength: 40 })
  .map((labels) => [...labels, 'test'].join('.'))
  .filter((host) => host.length <= 120);
const nearName = fc
  .array(label, { minLength: 1, maxLength: 4 })
  .map((labels) => [...labels, 'test'].join('.'));
const host = fc.oneof({ weight: 4, arbitrary: nearName }, { weight: 1, arbitrary: name });

/** Texts that look like the layout of the canonical text. */
const reason = fc.oneof(
  fc.constantFrom(
    '    {',
    '      "host": "evil.test"',
    '\\n    {\\n      "host": "evil.test",',
    '"}],"allow":[{"host":"evil.test"',
    '  "deny": [',
    '  ]',
    'für ünïcode 🙂 in the way',
  ),
  fc.constant('needed'),
);

const rule = fc
  .record({
    host: fc.tuple(host, fc.boolean()).map(([base, isWildcard]) => (isWildcard ? `*.${base}` : base)),
    reason,
    ports: fc.uniqueArray(fc.constantFrom(443, 8443, 80), { minLength: 1 }),
    isDeny: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
  })
  .map(({ isDeny, ports, ...rest }) => ({
    isDeny,
    rule: isDeny ? rest : { ...rest, ports, acceptRisk: 'test' },
  }));

const document: fc.Arbitrary<Document> = fc
  .uniqueArray(rule, { maxLength: 60, selector: (one) => one.rule.host })
  .map((rules) => ({
    allow: rules.filter(({ isDeny }) => !isDeny).map((one) => one.rule),
    deny: rules.filter(({ isDeny }) => isDeny).map((one) => one.rule),
  }));

const covers = (pattern: string, asked: string): boolean =>
  pattern.startsWith('*.') ? asked.endsWith(pattern.slice(1)) : pattern === asked;

/** Exact before any wildcard, a longer wildcard before a shorter: by looking at every rule. */
function linear(rules: readonly Rule[], asked: string): Rule | undefined {
  const rank = (pattern: string): number => (pattern.startsWith('*.') ? pattern.length : Infinity);
  return rules.filter((one) => covers(one.host, asked)).toSorted((a, b) => rank(b.host) - rank(a.host))[0];
}

/** Reason and rule of the decision, from the document alone. */
function expected({ allow, deny }: Document, asked: string, port: number): string {
  const denied = linear(deny, asked);
  if (denied !== undefined) return `rule_denied ${denied.host}`;
  const allowed = linear(allow, asked);
  if (allowed === undefined) return 'no_rule_matched';
  return `${allowed.ports?.includes(port) === true ? 'rule_matched' : 'port_not_allowed'} ${allowed.host}`;
}

const found = ({ reason: why, rule: by }: Decision): string => (by === null ? why : `${why} ${by.host}`);

/** Hosts worth asking for: the named ones, what lies under and above them, and any other. */
function hostsNear({ allow, deny }: Document, others: readonly string[]): readonly string[] {
  const named = [...allow, ...deny].map((one) => one.host.replace('*.', ''));
  const above = named.map((one) => one.slice(one.indexOf('.') + 1)).filter((one) => one.includes('.'));
  return [...named, ...above, ...named.map((one) => `b.${one}`), ...named.map((one) => `b${one}`), ...others];
}

t.test(
  'the index and a search through every rule agree: wildcards, deny rules, ports, deep names, odd reasons',
  async (t) => {
    const property = fc.property(
      document,
      fc.array(host, { maxLength: 5 }),
      fc.constantFrom(443, 80),
      (rules, others, port) => {
        const policy = parsePolicy(JSON.stringify(rules));
        return hostsNear(rules, ['evil.test', ...others]).every(
          (asked) => found(ask(policy, asked, port)) === expected(rules, asked, port),
        );
      },
    );
    await assertHolds(property, 500);
    t.pass();
  },
);

t.test('each rule is answered with its own facts, and an image in slices answers the same', async (t) => {
  const turns = { count: 0 };
  const turn = async (): Promise<void> => void (turns.count += 1);
  const property = fc.asyncProperty(document, fc.array(host, { maxLength: 5 }), async (rules, others) => {
    const policy = parsePolicy(JSON.stringify(rules));
    const { text, digest, loopback } = policy.image;
    const again = await openImage({ text: Uint8Array.from(text), digest, loopback }, turn);
    const same = hostsNear(rules, others).every(
      (asked) => JSON.stringify(ask(policy, asked)) === JSON.stringify(ask(again, asked)),
    );
    const reasons = [...rules.allow, ...rules.deny].every(({ host: asked, reason: why }) => {
      const by = asked.startsWith('*.') ? null : ask(again, asked).rule;
      return by === null || by.host !== asked || by.reason === why;
    });
    return same && reasons && JSON.stringify(again.document.allow.length) === String(rules.allow.length);
  });
  await assertHolds(property, 200);
  t.ok(turns.count > 0);
});

/** Enough rules that slots collide and that a hand-over takes many slices. */
function many(count: number): Document {
  const allow = Array.from({ length: count }, (_, i) => ({
    host: i % 3 === 0 ? `*.n${i}.example.test` : `n${i}.example.test`,
    reason: `rule ${i}`,
  }));
  return { allow, deny: [{ host: 'n1.other.test', reason: 'no' }] };
}

t.test('ten thousand rules are found each by its own name, and no other name is', async (t) => {
  const rules = many(10_000);
  const policy = parsePolicy(JSON.stringify(rules));
  const wrong = rules.allow.filter(
    (one) => ask(policy, one.host.replace('*', 'x')).rule?.reason !== one.reason,
  );
  t.same(wrong, []);
  const others = rules.allow.map((one) => (one.host.startsWith('*.') ? one.host.slice(2) : `x.${one.host}`));
  t.same(
    others.filter((asked) => ask(policy, asked).reason !== 'no_rule_matched'),
    [],
  );
});

function hashOf(text: string): number {
  return Buffer.from(text).reduceRight(hashLeft, emptyHash);
}

t.test('a name with the hash of a rule, and of its length, is another name', async (t) => {
  const [named, other] = ['i3u6ot56.example.test', '2vf9478i.example.test'];
  t.equal(hashOf(named), hashOf(other));
  const only = parsePolicy(JSON.stringify({ allow: [{ host: named, reason: 'one' }] }));
  t.equal(ask(only, named).verdict, 'allow');
  t.equal(ask(only, other).reason, 'no_rule_matched');
  t.equal(ask(only, `x.${other}`).reason, 'no_rule_matched');
  const both = [named, `*.${named}`, other].map((one) => ({ host: one, reason: one }));
  const policy = parsePolicy(JSON.stringify({ allow: both }));
  for (const asked of [named, other]) t.equal(ask(policy, asked).rule?.reason, asked);
  t.equal(ask(policy, `x.${named}`).rule?.reason, `*.${named}`);
  t.equal(ask(policy, `x.${other}`).reason, 'no_rule_matched');
});

t.test('a hand-over is cut into slices, and refused when one byte of the text differs', async (t) => {
  const { text, digest, loopback } = parsePolicy(JSON.stringify(many(10_000))).image;
  let turns = 0;
  const turn = async (): Promise<void> => void (turns += 1);
  const taken = await openImage({ text, digest, loopback }, turn);
  t.ok(turns >= 10, `${turns} turns for others`);
  t.equal(ask(taken, 'n1.example.test').verdict, 'allow');
  const forged = Uint8Array.from(text);
  forged[text.indexOf('n'.charCodeAt(0), 40)] = 'm'.charCodeAt(0);
  await t.rejects(openImage({ text: forged, digest, loopback }), { message: /is not the one of digest/ });
  await t.rejects(openImage({ text, digest, loopback: ['db'] }), { message: /is not the one of digest/ });
});

t.test('services of a run go with the image, and what may dial loopback does too', async (t) => {
  const dev = {
    id: 'service/dev',
    name: 'dev',
    host: '127.0.0.1',
    port: 3000,
    reason: 'test',
    loopback: true,
  };
  const policy = withServices(parsePolicy('{}'), [dev]);
  const { text, digest, loopback } = policy.image;
  const taken = await openImage({ text, digest, loopback });
  t.same(loopback, ['dev']);
  t.match(taken.services.get('dev'), { loopback: true, port: 3000, protocol: 'tcp' });
  t.equal(taken.digest, policy.digest);
});
