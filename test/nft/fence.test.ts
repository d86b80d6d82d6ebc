// The plan: which transaction a spec becomes, and which specs are refused. No kernel here; kernel/ has that.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import {
  dropClasses,
  FenceError,
  planFence,
  type FenceSpec,
  type Sandbox,
  type Transaction,
} from '../../nft/index.ts';
import { describeRule } from '../../nft/describe.ts';

const sandbox: Sandbox = {
  name: 'r0a1b2c',
  interface: 'sp-r0a1b2c',
  address: '10.219.0.2',
  proxy: '10.219.0.1',
  ports: [3128],
};
const spec: FenceSpec = { table: 'sallyport', pool: '10.219.0.0/16', sandboxes: [sandbox] };
const second: Sandbox = {
  ...sandbox,
  name: 'b',
  interface: 'sp-b',
  address: '10.219.0.6',
  proxy: '10.219.0.5',
};

interface Golden {
  readonly spec: FenceSpec;
  readonly transaction: Transaction;
}

/** `layer2` is for frames. */
const packetClasses = dropClasses.filter(({ name }) => name !== 'layer2');

const folder = join(import.meta.dirname, 'golden');
// To renew one after an intended change: `sallyport fence plan --spec FILE --json`.
for (const file of readdirSync(folder)) {
  t.test(`golden/${file} is what its spec becomes`, async (t) => {
    const golden = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Golden;
    t.same(planFence(golden.spec), golden.transaction);
  });
}

t.test('the shape of every plan', async (t) => {
  const text = JSON.stringify(planFence(spec));
  const rules = rulesOf(planFence(spec));

  t.notMatch(
    text,
    /"ct"|conntrack|established/,
    'no rule depends on connection tracking: a flow from before is cut too',
  );
  t.same(
    new Set(text.match(/"drop_[a-z0-9]+"/g)),
    new Set(packetClasses.map(({ name }) => `"drop_${name}"`)),
    'every class has its counter and no other name is counted',
  );
  for (const { name } of packetClasses)
    t.ok(
      rules.some((rule) => JSON.stringify(rule).includes(`{"counter":"drop_${name}"},{"drop":null}`)),
      `${name} is dropped somewhere`,
    );
  t.ok(
    rules.every((rule) => !JSON.stringify(rule).includes('accept') || JSON.stringify(rule).includes('3128')),
    'every accept names the proxy port',
  );
  t.same(rules.findLast((rule) => rule.chain === 'from_r0a1b2c')?.expr, [
    { counter: 'drop_other' },
    { drop: null },
  ]);
  t.same(
    planFence(spec)
      .nftables.slice(0, 3)
      .map((command) => Object.keys(command)[0]),
    ['add', 'delete', 'add'],
    'a table from before is gone in the same transaction',
  );
  t.same(rulesOf(planFence({ ...spec, sandboxes: [sandbox, second] })).length, 2 * rules.length);
});

t.test('a fence that tells of its drops drops and counts as one that does not', async (t) => {
  const told = rulesOf(planFence({ ...spec, log: { group: 5, perSecond: 7 } }));
  const isTelling = (rule: object): boolean => JSON.stringify(rule).includes('log_');
  t.same(
    told.filter((rule) => !isTelling(rule)),
    rulesOf(planFence(spec)),
    'the rules without a log are all there, in order',
  );
  for (const { name } of packetClasses) {
    const tell = told.filter(({ chain }) => chain === `log_${name}`);
    t.same(
      tell.map(({ expr }) => expr),
      [
        [
          { limit: { rate: 7, burst: 7, per: 'second' } },
          { log: { prefix: name, group: 5, snaplen: 44, 'queue-threshold': 1 } },
        ],
      ],
      `${name} has a limit of its own`,
    );
    const jumps = told.flatMap((rule, i) =>
      JSON.stringify(rule).includes(`"jump":{"target":"log_${name}"}`) ? [told[i + 1]] : [],
    );
    t.ok(
      jumps.every((next) => JSON.stringify(next).includes(`{"counter":"drop_${name}"},{"drop":null}]`)),
      'and what is told is dropped next',
    );
  }
});

t.test('the classes stand in the order of the rules, and each has a sentence', async (t) => {
  const order = rulesOf(planFence(spec))
    .filter((rule) => rule.chain === 'from_r0a1b2c')
    .flatMap((rule) => JSON.stringify(rule).match(/drop_([a-z0-9]+)/)?.[1] ?? []);
  t.same([...new Set(order)], packetClasses.map(({ name }) => name).slice(0, -2));
  t.ok(dropClasses.every(({ sentence }) => sentence.length > 20));
});

t.test('a service address is open on its own ports and in no other rule', async (t) => {
  const services = [{ address: '10.219.0.3', ports: [5432, 6379] }];
  const rules = rulesOf(planFence({ ...spec, sandboxes: [{ ...sandbox, services }] }));
  const added = rules.filter((rule) => JSON.stringify(rule).includes('10.219.0.3'));
  t.same(
    added.map(({ chain, expr }) => [chain, describeRule(expr)]),
    [
      ['from_r0a1b2c', 'ip saddr 10.219.0.2 ip daddr 10.219.0.3 tcp dport { 5432, 6379 } notrack accept'],
      ['input', 'iifname sp-r0a1b2c ip saddr 10.219.0.2 ip daddr 10.219.0.3 tcp dport { 5432, 6379 } accept'],
      [
        'postrouting',
        'oifname sp-r0a1b2c ip saddr 10.219.0.3 ip daddr 10.219.0.2 tcp sport { 5432, 6379 } tcp flags & (syn|ack) != syn accept',
      ],
    ],
  );
  const left = rules.filter((rule) => !added.includes(rule));
  t.same(left, rulesOf(planFence(spec)), 'the rest is as without it');
  const framed = rulesOf(planFence({ ...spec, sandboxes: [{ ...sandbox, services, frames: true }] }));
  t.same(
    framed
      .filter(({ chain }) => chain === 'frames_r0a1b2c')
      .map(({ expr }) => describeRule(expr))
      .filter((rule) => rule.includes('10.219.0.3')),
    ['arp saddr ip 10.219.0.2 arp daddr ip 10.219.0.3 accept'],
    'where frames are judged, the sandbox may ask for it',
  );
});

t.test('a plan does not depend on the order of ports, and its input is not changed', async (t) => {
  const ports = Object.freeze([5432, 22, 3128]);
  const plan = planFence({ ...spec, sandboxes: [{ ...sandbox, ports }] });
  t.same(plan, planFence({ ...spec, sandboxes: [{ ...sandbox, ports: [22, 3128, 5432] }] }));
  t.same(ports, [5432, 22, 3128]);
});

const refusals: readonly [title: string, value: unknown, message: RegExp][] = [
  ['nothing', undefined, /is not an object/],
  ['a list', [], /is not an object/],
  ['an empty object', {}, /sandboxes: is not a list.*table.*pool/],
  ['no sandbox, which would look like a fence that holds', { ...spec, sandboxes: [] }, /sandboxes: is empty/],
  ['an unknown key', { ...spec, family: 'ip' }, /unknown key `family`/],
  [
    'a prototype key',
    JSON.parse('{"__proto__":{"a":1},"table":"sallyport","pool":"10.0.0.0/8","sandboxes":[]}'),
    /unknown key `__proto__`/,
  ],
  ['an unknown key in a sandbox', of({ mark: 1 }), /sandboxes\[0\]: unknown key `mark`/],
  ["another program's table", { ...spec, table: 'filter' }, /`filter` is not a table of ours/],
  ['a table named like a word of nft', { ...spec, table: 'rt' }, /`rt` is not a table of ours/],
  [
    'a table with a newline',
    { ...spec, table: 'sallyport_a\nflush ruleset' },
    /`sallyport_a\\nflush ruleset` is not a table/,
  ],
  ['a table without its end', { ...spec, table: 'sallyport_' }, /not a table of ours/],
  ['an interface of 16 characters', of({ interface: 'sp-4567890123456' }), /`sp-4567890123456` is not 1-15/],
  ['an empty interface', of({ interface: '' }), /`` is not 1-15/],
  ['a wildcard interface, which would match every link', of({ interface: 'sp-*' }), /`sp-\*` is not 1-15/],
  ['a set reference as interface', of({ interface: '@all' }), /`@all` is not 1-15/],
  ['an interface with a quote', of({ interface: 'a" accept "' }), /is not 1-15/],
  ['an interface with a slash', of({ interface: 'a/b' }), /is not 1-15/],
  ['an interface named like a folder', of({ interface: '..' }), /is not 1-15/],
  ['the loopback interface', of({ interface: 'lo' }), /`lo` is the machine itself/],
  ['a name with a space', of({ name: 'a b' }), /`a b` is not 1-32/],
  ['a prototype name', of({ name: '__proto__' }), /`__proto__` is not 1-32/],
  ['an IPv6 address', of({ address: 'fd00::2' }), /`fd00::2` is not an IPv4 unicast/],
  ['an address with a leading zero', of({ address: '10.219.0.02' }), /not an IPv4 unicast/],
  ['an address in short form', of({ address: '10.2' }), /not an IPv4 unicast/],
  ['an address with a prefix', of({ address: '10.219.0.2/30' }), /not an IPv4 unicast/],
  ['the wildcard address as proxy', of({ proxy: '0.0.0.0' }), /sandboxes\[0\]\.proxy: `0\.0\.0\.0` is not/],
  ['a loopback proxy', of({ proxy: '127.0.0.1' }), /not an IPv4 unicast/],
  ['a multicast proxy', of({ proxy: '224.0.0.1' }), /not an IPv4 unicast/],
  ['a range as proxy', of({ proxy: '10.219.0.0-10.219.0.9' }), /not an IPv4 unicast/],
  ['the sandbox as its own proxy', of({ proxy: '10.219.0.2' }), /are both `10\.219\.0\.2`/],
  ['frames as a number', of({ frames: 1 }), /sandboxes\[0\]\.frames: is not true or false/],
  ['a log without a group', { ...spec, log: {} }, /log\.group: `undefined` is not a number from 1 to 65535/],
  ['a log to group 0, which is the system log', { ...spec, log: { group: 0 } }, /log\.group: `0`/],
  [
    'a log without a limit',
    { ...spec, log: { group: 5, perSecond: 0 } },
    /log\.perSecond: `0` is not .* 1000/,
  ],
  [
    'a log with a prefix of its own',
    { ...spec, log: { group: 5, prefix: 'x' } },
    /log: unknown key `prefix`/,
  ],
  ['no port', of({ ports: [] }), /ports: holds no port/],
  ['port 0', of({ ports: [0] }), /`0` is not a port/],
  ['port 65536', of({ ports: [65_536] }), /`65536` is not a port/],
  ['a port as text', of({ ports: ['3128'] }), /`3128` is not a port number: .* not a text/],
  ['a port with a fraction', of({ ports: [1.5] }), /`1.5` is not a port/],
  ['a port range', of({ ports: [{ range: [1, 65_535] }] }), /is not a port/],
  ['a port twice', of({ ports: [22, 22] }), /given twice/],
  ['no UDP port where some are to be', of({ datagrams: [] }), /datagrams: holds no port/],
  ['a UDP port as text', of({ datagrams: ['53'] }), /datagrams: `53` is not a port number/],
  ['services that are no list', of({ services: {} }), /services: is not a list/],
  ['a service without a port', of({ services: [{ address: '10.219.0.3', ports: [] }] }), /holds no port/],
  [
    'a service on no address',
    of({ services: [{ address: '0.0.0.0', ports: [1] }] }),
    /services\[0\]\.address/,
  ],
  ['a service with a host', of({ services: [{ host: 'x', ports: [1] }] }), /unknown key `host`/],
  [
    "a service at the proxy's address",
    of({ services: [{ address: sandbox.proxy, ports: [5432] }] }),
    /services: `10\.219\.0\.1` is given twice/,
  ],
  [
    'two services at one address',
    of({ services: [5432, 5433].map((port) => ({ address: '10.219.0.3', ports: [port] })) }),
    /services: `10\.219\.0\.3` is given twice/,
  ],
  [
    'a pool that is everything',
    { ...spec, pool: '0.0.0.0/0' },
    /pool: `0\.0\.0\.0\/0` is not an IPv4 network/,
  ],
  ['a pool with host bits', { ...spec, pool: '10.219.0.1/16' }, /pool: .* no host bits/],
  ['a pool with a leading zero', { ...spec, pool: '10.219.0.0/016' }, /pool/],
  [
    'a pool that does not hold the sandbox',
    { ...spec, pool: '10.220.0.0/16' },
    /does not hold `10\.219\.0\.2`/,
  ],
  ['two sandboxes of one name', two({ name: sandbox.name }), /two have the name `r0a1b2c`/],
  [
    'two sandboxes on one interface',
    two({ interface: sandbox.interface }),
    /two have the interface `sp-r0a1b2c`/,
  ],
  ['two sandboxes of one address', two({ address: sandbox.address }), /two have the address `10\.219\.0\.2`/],
];

t.test('a spec that cannot be enforced is refused, with a word on what to do', async (t) => {
  for (const [title, value, message] of refusals) {
    t.throws(
      () => planFence(value as FenceSpec),
      { name: 'FenceError', code: 'spec_invalid', message, help: /fence plan --help/ },
      title,
    );
  }
});

t.test('everything wrong with a spec is said at once', async (t) => {
  const error = errorOf(() =>
    planFence({ ...spec, table: 'x', pool: 'y', sandboxes: [{ ...sandbox, name: '', ports: [0] }] }),
  );
  t.match(error.message, /table: .*pool: .*sandboxes\[0\]\.ports: .*sandboxes\[0\]\.name: /);
});

t.test('no name, address or port in a spec changes the number of rules (config injection)', async () => {
  const plain = planFence(spec).nftables.length;
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('a b', 'x; accept', '"', '\n', '{', '@x', '*', 'any', '0/0'),
  );
  const wild = fc.record({
    name: fc.oneof(fc.constant(sandbox.name), text, fc.stringMatching(/^[a-zA-Z0-9_-]{1,40}$/)),
    interface: fc.oneof(fc.constant(sandbox.interface), text, fc.stringMatching(/^[a-zA-Z0-9_.-]{1,20}$/)),
    address: fc.oneof(fc.constant(sandbox.address), text, fc.ipV4()),
    proxy: fc.oneof(fc.constant(sandbox.proxy), text, fc.ipV4()),
    ports: fc.oneof(
      fc.constant([3128]),
      fc.uniqueArray(fc.integer({ min: -1, max: 70_000 }), { maxLength: 9 }),
    ),
  });
  fc.assert(
    fc.property(wild, (one) => {
      const outcome = attempt(() => planFence({ ...spec, sandboxes: [one] }));
      return (
        outcome instanceof FenceError || (outcome.nftables.length === plain && hasOnlySafeStrings(outcome))
      );
    }),
    { numRuns: 3000, seed: 7 },
  );
});

/** Whatever got through is made of letters, digits and `_ . - /` only: nothing that any parser could take for syntax. */
function hasOnlySafeStrings(tx: Transaction): boolean {
  const strings: string[] = [];
  JSON.stringify(tx, (_key, value: unknown) => (typeof value === 'string' ? strings.push(value) : value));
  return strings.every((one) => /^([a-zA-Z0-9_.-]+|==|!=)$/.test(one));
}

function of(change: object): unknown {
  return { ...spec, sandboxes: [{ ...sandbox, ...change }] };
}

function two(change: object): unknown {
  return { ...spec, sandboxes: [sandbox, { ...second, ...change }] };
}

function attempt<T>(work: () => T): T | FenceError {
  try {
    return work();
  } catch (error) {
    if (error instanceof FenceError) return error;
    throw error;
  }
}

function errorOf(work: () => unknown): FenceError {
  const error = attempt(work);
  if (error instanceof FenceError) return error;
  throw new Error('it was accepted');
}

function rulesOf(tx: Transaction): readonly { readonly chain: string; readonly expr: unknown }[] {
  return tx.nftables.flatMap((command) =>
    'add' in command && 'rule' in command.add ? [command.add.rule] : [],
  );
}
