// Properties of whole policies: label boundaries, precedence against a slow model, canonical form, and a loader that never crashes.
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  canonicalText,
  decide,
  parsePolicy,
  parseTarget,
  PolicyError,
  type Decision,
  type Policy,
} from '../../policy/index.ts';
import { assertHolds } from '../helpers/fuzz.ts';

const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);
const shortLabel = fc.constantFrom('a', 'b', 'c');
const hostOf = (part: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.array(part, { minLength: 1, maxLength: 4 }).map((labels) => `${labels.join('.')}.example`);
const anyHost = hostOf(label);
const patternOf = (host: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(host, fc.boolean()).map(([name, isWildcard]) => (isWildcard ? `*.${name}` : name));

interface Rule {
  readonly host: string;
  readonly ports?: readonly number[];
  readonly reason: string;
}

const ruleOf = (pattern: fc.Arbitrary<string>): fc.Arbitrary<Rule> =>
  fc.record(
    {
      host: pattern,
      reason: fc.constantFrom('r', 'another reason', '__proto__'),
      group: fc.constantFrom('g', 'constructor', '__proto__'),
      ports: fc.uniqueArray(fc.constantFrom(80, 443, 8443), { minLength: 1 }),
      protocol: fc.constantFrom('tls' as const, 'http' as const),
      addresses: fc.uniqueArray(fc.constantFrom('10.0.0.0/8', 'fd00::/8', '192.168.1.0/24'), {
        minLength: 1,
      }),
      limits: fc.record({ upBytes: fc.integer({ min: 1 }), downBytes: fc.integer({ min: 1 }) }),
    },
    { requiredKeys: ['host', 'reason'] },
  );

/** Documents without duplicates and contradictions. */
function documentOf(pattern: fc.Arbitrary<string>): fc.Arbitrary<{ allow: Rule[]; deny: Rule[] }> {
  return fc
    .uniqueArray(fc.tuple(ruleOf(pattern), fc.boolean()), { maxLength: 12, selector: ([rule]) => rule.host })
    .map((rules) => ({
      allow: rules.filter(([, isDeny]) => !isDeny).map(([rule]) => ({ ...rule, acceptRisk: 'a test' })),
      deny: rules.filter(([, isDeny]) => isDeny).map(([{ host, reason }]) => ({ host, reason })),
    }));
}

function decideName(policy: Policy, target: string): Decision {
  return decide(policy, { principal: { name: 'p' }, target: parseTarget(target), mode: 'connect' });
}

t.test(
  'x + r without a dot never matches a rule r, and r + .y never does (suffix confusion, row 3)',
  async (t) => {
    await assertHolds(
      fc.property(patternOf(anyHost), label, label, (pattern, x, y) => {
        const policy = parsePolicy(
          JSON.stringify({ allow: [{ host: pattern, reason: 'r', acceptRisk: 'a test' }] }),
        );
        const base = pattern.replace('*.', '');
        const isDenied = (name: string): boolean =>
          decideName(policy, `${name}:443`).reason === 'no_rule_matched';
        const isCovered =
          decideName(policy, `${x}.${base}:443`).verdict === (pattern === base ? 'deny' : 'allow');
        return isDenied(x + base) && isDenied(`${base}.${y}`) && isDenied(`${x}${base}.${y}`) && isCovered;
      }),
    );
    t.pass();
  },
);

t.test('case and a trailing dot never change a decision (row 4)', async (t) => {
  await assertHolds(
    fc.property(
      documentOf(patternOf(hostOf(shortLabel))),
      hostOf(shortLabel),
      fc.constantFrom(80, 443),
      (document, name, port) => {
        const policy = parsePolicy(JSON.stringify(document));
        const forms = [name, name.toUpperCase(), `${name}.`].map((form) =>
          JSON.stringify(decideName(policy, `${form}:${port}`)),
        );
        return new Set(forms).size === 1;
      },
    ),
  );
  t.pass();
});

const covers = (pattern: string, name: string): boolean =>
  pattern.startsWith('*.') ? name.endsWith(pattern.slice(1)) && name !== pattern.slice(2) : name === pattern;
const rank = (pattern: string): number => (pattern.startsWith('*.') ? pattern.length : 1000);

/** The precedence of design 4.2.6 as a search through the document: slow, and obviously right. */
function modelReason({ allow, deny }: Policy['document'], name: string, port: number): string {
  if (deny.some((rule) => covers(rule.host, name))) return 'rule_denied';
  const [best] = allow
    .filter((rule) => covers(rule.host, name))
    .toSorted((a, b) => rank(b.host) - rank(a.host));
  if (best === undefined) return 'no_rule_matched';
  if (!(best.ports ?? [best.protocol === 'http' ? 80 : 443]).includes(port)) return 'port_not_allowed';
  return best.protocol === 'http' ? 'protocol_not_allowed' : 'rule_matched';
}

t.test('decide() agrees with a plain search through the document', async (t) => {
  await assertHolds(
    fc.property(
      documentOf(patternOf(hostOf(shortLabel))),
      hostOf(shortLabel),
      fc.constantFrom(80, 443, 8443),
      (document, name, port) => {
        const policy = parsePolicy(JSON.stringify(document));
        return decideName(policy, `${name}:${port}`).reason === modelReason(policy.document, name, port);
      },
    ),
    3000,
  );
  t.pass();
});

t.test('load(print(p)) = p to the byte, in any order of rules (row 12)', async (t) => {
  await assertHolds(
    fc.property(documentOf(patternOf(anyHost)), (document) => {
      const policy = parsePolicy(JSON.stringify(document));
      const reversed = parsePolicy(
        JSON.stringify({ deny: document.deny.toReversed(), allow: document.allow.toReversed() }),
      );
      const printed = canonicalText(policy.document);
      const again = parsePolicy(printed);
      return (
        canonicalText(again.document) === printed &&
        again.digest === policy.digest &&
        reversed.digest === policy.digest
      );
    }),
  );
  t.pass();
});

/** A policy, or PolicyError with problems in words; anything else is a crash. */
function loadsOrExplains(text: string): boolean {
  try {
    return parsePolicy(text).digest.length === 64;
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    return (
      error.problems.length > 0 && error.problems.every(({ message, help }) => message !== '' && help !== '')
    );
  }
}

const shipped = readFileSync(join(import.meta.dirname, '../../policy/default.json'), 'utf8');

t.test('the loader answers any text with a policy or with problems, and never crashes', async (t) => {
  const edit = fc.tuple(fc.nat(shipped.length), fc.nat(8), fc.string({ unit: 'binary', maxLength: 8 }));
  const mutated = fc
    .array(edit, { minLength: 1, maxLength: 4 })
    .map((edits) =>
      edits.reduce((text, [at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut), shipped),
    );
  const keys = fc.constantFrom(
    'allow',
    'deny',
    'services',
    'tests',
    'version',
    'host',
    'ports',
    'reason',
    'addresses',
    'limits',
    '__proto__',
    'id',
    'name',
    'port',
  );
  const shaped = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 5 },
      fc.constantFrom('a.example', '*.x.example', '10.0.0.0/8', 443, 0, -1, null, true, ''),
      fc.string(),
      tie('list'),
      tie('object'),
    ),
    list: fc.array(tie('value'), { maxLength: 3 }),
    object: fc.dictionary(keys, tie('value'), { maxKeys: 5 }),
  })).object;
  const text = fc.oneof(
    mutated,
    shaped.map((value) => JSON.stringify(value)),
    fc.json(),
    fc.string({ unit: 'binary', maxLength: 200 }),
  );
  await assertHolds(fc.property(text, loadsOrExplains), 2000);
  t.pass();
});

t.test('a hundred thousand open brackets are an error, not a crash', async (t) => {
  for (const text of [
    '['.repeat(100_000),
    '{"a":'.repeat(100_000),
    `{"allow":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
  ]) {
    t.ok(loadsOrExplains(text));
  }
});
