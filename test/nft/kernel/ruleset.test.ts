// The fence as an object in the real kernel: applied, read back, changed by others, removed. No packets here; traffic.test.ts has those.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  applyFence,
  createNft,
  digestFence,
  FenceError,
  planFence,
  readDrops,
  removeFence,
  verifyFence,
  type FenceSpec,
} from '../../../nft/index.ts';
import { needs } from '../../helpers/needs.ts';
import { makeNetns, run, type Netns } from '../../helpers/netns.ts';

const skip = needs(t, ['root', 'netns', 'nft', 'ip', 'nsenter', 'setpriv']);
const spec: FenceSpec = {
  table: 'sallyport_test',
  pool: '10.219.0.0/16',
  sandboxes: [
    { name: 'a', interface: 'sp-a', address: '10.219.0.2', proxy: '10.219.0.1', ports: [3128, 5432] },
  ],
};
const golden = join(import.meta.dirname, '../golden');

t.test('every golden plan is taken by the kernel and reads back as planned', { skip }, async (t) => {
  const { nft, ns } = await machine(t);
  await ns.must(['ip', 'link', 'add', 'sp-r0a1b2c', 'type', 'veth', 'peer', 'name', 'inside']);
  for (const file of readdirSync(golden)) {
    const one = JSON.parse(readFileSync(join(golden, file), 'utf8')) as { spec: FenceSpec };
    await applyFence(nft, one.spec);
    t.same(await verifyFence(nft, one.spec), [], file);
  }
});

t.test(
  'a machine without /etc/protocols, where nft prints numbers, holds the same fence',
  { skip },
  async (t) => {
    const { ns } = await machine(t);
    const hide = '[ ! -e /etc/protocols ] || mount --bind /dev/null /etc/protocols; exec "$@"';
    const enter = [...ns.enter, 'unshare', '--mount', '--propagation', 'private', 'sh', '-c', hide, 'sh'];
    const nft = createNft({ enter });
    await applyFence(nft, spec);
    t.ok(JSON.stringify(await nft.list(spec.table)).includes('[6,17]'), 'nft does print numbers there');
    t.same(await verifyFence(nft, spec), []);
  },
);

/** What another program may do to our table, in nft's own language, and what verify must say about it. */
const mutations: readonly [title: string, command: (handles: Handles) => string, said: RegExp][] = [
  [
    'a rule deleted',
    (at) => `delete rule ${chain('from_a')} handle ${at('counter name "drop_metadata"')}`,
    /`from_a`: rule 4 is missing: ip daddr/,
  ],
  [
    "two rules in each other's place",
    (at) =>
      `delete rule ${chain('from_a')} handle ${at('counter name "drop_ipv6"')}; add rule ${chain('from_a')} position ${at('counter name "drop_spoof"')} meta nfproto ipv6 counter name "drop_ipv6" drop`,
    /`from_a`: rule 2 is out of order/,
  ],
  [
    'an accept before all',
    () => `insert rule ${chain('from_a')} accept`,
    /`from_a`: rule 1 is not in the plan: accept/,
  ],
  [
    'an accept for one address before all',
    () => `insert rule ${chain('forward')} ip daddr 203.0.113.9 accept`,
    /`forward`: rule 1 is not in the plan: ip daddr 203\.0\.113\.9 accept/,
  ],
  [
    "a return in the jump's place",
    () => `insert rule ${chain('prerouting')} return`,
    /`prerouting`: rule 1 is not in the plan: return/,
  ],
  [
    'an accept after all',
    () => `add rule ${chain('from_a')} accept`,
    /`from_a`: rule 14 is not in the plan: accept/,
  ],
  [
    'another port',
    (at) =>
      `replace rule ${chain('input')} handle ${at('accept')} iifname "sp-a" ip saddr 10.219.0.2 ip daddr 10.219.0.1 tcp dport { 3128, 22 } accept`,
    /`input`: rule 1 is not in the plan: .*\{ 22, 3128 \} accept/,
  ],
  ['a chain emptied', () => `flush chain ${chain('postrouting')}`, /`postrouting`: rule 2 is missing/],
  [
    'a chain dropped',
    () => `flush chain ${chain('forward')}; delete chain ${chain('forward')}`,
    /chain `forward` is missing/,
  ],
  [
    'another policy',
    () => `chain ${chain('input')} { policy drop; }`,
    /chain `input` is bound as .*policy drop/,
  ],
  [
    'another priority',
    () =>
      `flush chain ${chain('forward')}; delete chain ${chain('forward')}; add chain ${chain('forward')} { type filter hook forward priority 300; }`,
    /chain `forward` is bound as .*prio 300/,
  ],
  [
    'one more chain',
    () => `add chain ${chain('early')} { type filter hook prerouting priority -400; policy accept; }`,
    /chain `early` is not in the plan/,
  ],
  ['one more counter', () => 'add counter inet sallyport_test mine', /counter `mine` is not in the plan/],
  ['a set', () => 'add set inet sallyport_test open { type ipv4_addr; }', /set `open` is not in the plan/],
  [
    'the whole table switched off',
    () => 'add table inet sallyport_test { flags dormant; }',
    /the table carries `flags`/,
  ],
  ['the whole table gone', () => 'delete table inet sallyport_test', /table `sallyport_test` is missing/],
  ['the whole ruleset flushed', () => 'flush ruleset', /table `sallyport_test` is missing/],
];

t.test(
  'whatever another program does to our table, verify says it, and apply puts it right',
  { skip },
  async (t) => {
    const { nft, ns } = await machine(t);
    await applyFence(nft, spec);
    const digest = await digestFence(nft, spec.table);
    for (const [title, command, said] of mutations) {
      await applyFence(nft, spec);
      await ns.must(['nft', command(await readHandles(ns))]);
      t.match((await verifyFence(nft, spec)).join('\n'), said, title);
      t.not(await digestFence(nft, spec.table), digest, `${title}: another digest`);
    }
    await applyFence(nft, spec);
    t.equal(await digestFence(nft, spec.table), digest, 'new handles and counters are the same rules');
    t.same(await verifyFence(nft, spec), []);
  },
);

t.test('other tables are the same to the byte after apply, apply again and remove', { skip }, async (t) => {
  const { nft, ns } = await machine(t);
  await ns.must([
    'nft',
    'add table inet filter; add chain inet filter input { type filter hook input priority 0; policy drop; }; add rule inet filter input tcp dport 22 counter accept',
  ]);
  await ns.must([
    'nft',
    'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname "up0" masquerade',
  ]);
  await ns.must(['nft', 'add table inet sallyport_other; add chain inet sallyport_other input']);
  const others = async (): Promise<string> => {
    const texts = [
      ['inet', 'filter'],
      ['ip', 'nat'],
      ['inet', 'sallyport_other'],
    ].map(async (table) => await ns.must(['nft', '-a', 'list', 'table', ...table]));
    return (await Promise.all(texts)).join('\n');
  };
  const before = await others();
  const whole = await ns.must(['nft', 'list', 'ruleset']);
  for (const change of [applyFence(nft, spec), applyFence(nft, spec)]) await change;
  t.equal(await others(), before);
  await removeFence(nft, spec.table);
  t.equal(await others(), before);
  t.equal(await ns.must(['nft', 'list', 'ruleset']), whole, 'and nothing of ours is left');
});

t.test(
  'apply again is the same table, remove again is no error, and a smaller spec leaves nothing of the larger',
  { skip },
  async (t) => {
    const { nft, ns } = await machine(t);
    const text = async (): Promise<string> => await ns.must(['nft', 'list', 'table', 'inet', spec.table]);
    await applyFence(nft, spec);
    const once = await text();
    const second = {
      name: 'b',
      interface: 'sp-b',
      address: '10.219.0.6',
      proxy: '10.219.0.5',
      ports: [1, 2, 3],
    };
    await applyFence(nft, { ...spec, sandboxes: [...spec.sandboxes, second] });
    t.not(await text(), once);
    await applyFence(nft, spec);
    t.equal(await text(), once);
    await removeFence(nft, spec.table);
    await removeFence(nft, spec.table);
    t.same(await nft.list(spec.table), []);
    await t.rejects(readDrops(nft, spec.table), { code: 'nft_failed' });
  },
);

t.test('a transaction that the kernel refuses changes nothing', { skip }, async (t) => {
  const { nft, ns } = await machine(t);
  await applyFence(nft, spec);
  const before = await ns.must(['nft', '-a', 'list', 'ruleset']);
  const tx = {
    nftables: [
      ...planFence(spec).nftables,
      { delete: { table: { family: 'inet', name: 'sallyport_none' } } } as const,
    ],
  };
  await t.rejects(nft.check(tx), { code: 'nft_failed' });
  await t.rejects(nft.apply(tx), { code: 'nft_failed', message: /No such file or directory/ });
  await nft.check(planFence({ ...spec, table: 'sallyport_other' }));
  t.equal(await ns.must(['nft', '-a', 'list', 'ruleset']), before, 'a check alone changes nothing either');
});

t.test(
  'root without CAP_NET_ADMIN is told so, and nothing is claimed (missing privilege must not degrade)',
  { skip },
  async (t) => {
    const { ns } = await machine(t);
    const powerless = createNft({
      enter: [...ns.enter, 'setpriv', '--inh-caps=-net_admin', '--bounding-set=-net_admin', '--'],
    });
    const expected = { code: 'nft_not_permitted', help: /CAP_NET_ADMIN/ };
    await t.rejects(applyFence(powerless, spec), expected);
    await t.rejects(verifyFence(powerless, spec), expected);
    await t.rejects(removeFence(powerless, spec.table), expected);
  },
);

t.test('an interface named like a word of nft is fenced or refused, never misread', { skip }, async (t) => {
  const { nft } = await machine(t);
  for (const name of [
    'any',
    'tcp',
    'icmp',
    'udp',
    '1',
    '10.0.0.1',
    'drop',
    'iifname',
    'lo0',
    'a.b',
    '-a',
    'inet',
    '0x10',
  ]) {
    const one = { ...spec, sandboxes: spec.sandboxes.map((sandbox) => ({ ...sandbox, interface: name })) };
    const outcome = await applyFence(nft, one).then(
      async () => await verifyFence(nft, one),
      (error: unknown) => error,
    );
    t.ok(
      outcome instanceof FenceError || (Array.isArray(outcome) && outcome.length === 0),
      `${name}: ${outcome instanceof Error ? outcome.message : 'fenced'}`,
    );
  }
});

t.test(
  'an ordinary user, as root of an own user and network namespace, can apply and verify',
  { skip: needs(t, ['userns', 'nft', 'unshare']) },
  async (t) => {
    const door = JSON.stringify(join(import.meta.dirname, '../../../nft/index.ts'));
    const script = `import { applyFence, createNft, verifyFence } from ${door}
    const spec = ${JSON.stringify(spec)}
    await applyFence(createNft(), spec); console.log(JSON.stringify(await verifyFence(createNft(), spec)))`;
    const { stdout, stderr } = await run([
      'unshare',
      '-Urn',
      process.execPath,
      '--input-type=module',
      '-e',
      script,
    ]);
    t.equal(stdout, '[]\n', stderr);
  },
);

interface Machine {
  readonly ns: Netns;
  readonly nft: ReturnType<typeof createNft>;
}

async function machine(t: { teardown(handler: () => Promise<void>): void }): Promise<Machine> {
  const ns = await makeNetns(t, 'rules');
  return { ns, nft: createNft({ enter: ns.enter }) };
}

/** Handle of the first rule whose text contains the given words. */
type Handles = (words: string) => string;

async function readHandles(ns: Netns): Promise<Handles> {
  const lines = (await ns.must(['nft', '-a', 'list', 'table', 'inet', spec.table])).split('\n');
  return (words) =>
    lines.find((line) => line.includes(`${words} `) && !line.includes('{ #'))?.match(/# handle (\d+)/)?.[1] ??
    'none';
}

function chain(name: string): string {
  return `inet ${spec.table} ${name}`;
}
