// Apply, verify, remove and drop counts against the fake kernel; kernel/ruleset.test.ts repeats the mutations on the real one.
import t from 'tap';
import {
  applyFence,
  createFakeNft,
  planFence,
  readDrops,
  removeFence,
  verifyFence,
  type FakeNft,
  type FenceSpec,
  type NftObject,
} from '../../nft/index.ts';

const spec: FenceSpec = {
  table: 'sallyport_a',
  pool: '10.219.0.0/16',
  sandboxes: [
    { name: 'a', interface: 'sp-a', address: '10.219.0.2', proxy: '10.219.0.1', ports: [3128, 5432] },
  ],
};

type Edit = (content: readonly NftObject[]) => readonly NftObject[];

async function fenced(edit: Edit = (content) => content): Promise<FakeNft> {
  const nft = createFakeNft();
  await applyFence(nft, spec);
  nft.tables.set(spec.table, edit(nft.tables.get(spec.table) ?? []));
  return nft;
}

const foreign = (chain: string, ...expr: object[]): NftObject => ({
  rule: { family: 'inet', table: spec.table, chain, handle: 999, expr },
});
const isRule = (object: NftObject, chain: string): boolean => object['rule']?.['chain'] === chain;

/** Edits the rules of one chain as a list, leaving the rest where it stands. */
const rulesOf =
  (chain: string, edit: Edit): Edit =>
  (content) => [
    ...content.filter((one) => !isRule(one, chain)),
    ...edit(content.filter((one) => isRule(one, chain))),
  ];
const changing =
  (kind: string, name: string, change: (text: string) => string): Edit =>
  (content) =>
    content.map((one) => {
      const body = one[kind];
      const hit = body !== undefined && (body['name'] === name || body['chain'] === name);
      return hit ? (JSON.parse(change(JSON.stringify(one))) as NftObject) : one;
    });
const without =
  (kind: string, name: string): Edit =>
  (content) =>
    content.filter((one) => one[kind]?.['name'] !== name);

const mutations: readonly [title: string, edit: Edit, said: RegExp[]][] = [
  [
    'a rule was deleted',
    rulesOf('from_a', (rules) => rules.filter((_, i) => i !== 3)),
    [/^chain `from_a`: rule 4 is missing: ip daddr \{ 100\.100\.100\.200.* counter drop_metadata drop$/],
  ],
  [
    'two rules changed places',
    rulesOf('from_a', ([first, second, third, ...rest]) =>
      [first, third, second, ...rest].filter((one) => one !== undefined),
    ),
    [/^chain `from_a`: rule 2 is out of order: ip saddr != 10\.219\.0\.2 counter drop_spoof drop$/],
  ],
  [
    'an accept stands before the drops',
    rulesOf('from_a', (rules) => [foreign('from_a', { accept: null }), ...rules]),
    [/^chain `from_a`: rule 1 is not in the plan: accept$/],
  ],
  [
    'an accept stands after the drops',
    rulesOf('forward', (rules) => [...rules, foreign('forward', { accept: null })]),
    [/^chain `forward`: rule 3 is not in the plan: accept$/],
  ],
  [
    'a rule that stands twice',
    rulesOf('forward', ([first, ...rest]) => [first, first, ...rest].filter((one) => one !== undefined)),
    [/^chain `forward`: rule 2 is not in the plan: iifname sp-a counter drop_forward drop$/],
  ],
  [
    'another port',
    changing('rule', 'input', (text) => text.replace('3128', '3129')),
    [
      /^chain `input`: rule 1 is missing: .*\{ 3128, 5432 \} accept$/,
      /^chain `input`: rule 1 is not in the plan: .*\{ 3129, 5432 \} accept$/,
    ],
  ],
  [
    'one more port',
    changing('rule', 'input', (text) => text.replace('[3128,', '[22,3128,')),
    [/^chain `input`: rule 1 is missing/, /rule 1 is not in the plan: .*\{ 22, 3128, 5432 \}/],
  ],
  [
    'a drop became an accept',
    changing('rule', 'forward', (text) => text.replace('"drop":', '"accept":')),
    [
      /missing: iifname/,
      /missing: oifname/,
      /not in the plan: iifname.* accept$/,
      /not in the plan: oifname/,
    ],
  ],
  [
    'a match was negated',
    changing('rule', 'prerouting', (text) => text.replace('"=="', '"!="')),
    [/missing: iifname sp-a jump from_a$/, /not in the plan: iifname != sp-a jump from_a$/],
  ],
  [
    'a chain was dropped',
    (content) => rulesOf('forward', () => [])(without('chain', 'forward')(content)),
    [/^chain `forward` is missing$/],
  ],
  ['a chain was emptied', rulesOf('postrouting', () => []), [/rule 1 is missing/, /rule 2 is missing/]],
  [
    'a chain runs later',
    changing('chain', 'prerouting', (text) => text.replace('-300', '300')),
    [
      /^chain `prerouting` is bound as hook prerouting, policy accept, prio 300, type filter, not as .*prio -300/,
    ],
  ],
  [
    'a chain has another policy',
    changing('chain', 'input', (text) => text.replace('"accept"', '"drop"')),
    [/^chain `input` is bound as .*policy drop/],
  ],
  [
    'a chain hangs on another hook',
    changing('chain', 'input', (text) => text.replace('"hook":"input"', '"hook":"output"')),
    [/bound as hook output/],
  ],
  [
    'a chain lost its hook',
    (content) =>
      content.map((one) =>
        one['chain']?.['name'] === 'input' ? { chain: { family: 'inet', name: 'input' } } : one,
      ),
    [/^chain `input` is bound as no hook/],
  ],
  [
    'a chain was added',
    (content) => [...content, { chain: { family: 'inet', table: spec.table, name: 'extra' } }],
    [/^chain `extra` is not in the plan$/],
  ],
  ['a counter was deleted', without('counter', 'drop_dns'), [/^counter `drop_dns` is missing$/]],
  [
    'a counter was added',
    (content) => [...content, { counter: { name: 'mine' } }],
    [/^counter `mine` is not in the plan$/],
  ],
  [
    'a set was added',
    (content) => [...content, { set: { name: 'open', type: 'ipv4_addr' } }],
    [/^set `open` is not in the plan$/],
  ],
  [
    'the table was made dormant, which unhooks it all',
    changing('table', spec.table, (text) => text.replace('"handle"', '"flags":"dormant","handle"')),
    [/^the table carries `flags`/],
  ],
  [
    'the table was emptied',
    (content) => content.slice(0, 1),
    [/counter `drop_ipv6` is missing/, /chain `prerouting` is missing/],
  ],
];

t.test('verify names chain and position when', async (t) => {
  for (const [title, edit, said] of mutations) {
    const differences = await verifyFence(await fenced(edit), spec);
    t.ok(
      said.every((pattern) => differences.some((one) => pattern.test(one))),
      `${title}: ${differences.join(' | ')}`,
    );
  }
});

/** What the kernel adds, and what only says where an object is kept: no part of the fence's meaning. */
const meaningless = new Set(['handle', 'packets', 'bytes', 'family', 'table']);

/** Every listing in which one value differs, one entry of a list is missing, or one member of an object has another name. */
function* everyEdit(value: unknown, put: (changed: unknown) => void, path: string): Generator<string> {
  if (Array.isArray(value)) {
    for (const [i, one] of value.entries()) {
      put(value.toSpliced(i, 1));
      yield `${path}[${i}] removed`;
      yield* everyEdit(one, (changed) => put(value.with(i, changed)), `${path}[${i}]`);
    }
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, one] of Object.entries(value)) {
      if (meaningless.has(key)) continue;
      put(Object.fromEntries(Object.entries(value).map(([k, v]) => [k === key ? `${k}x` : k, v])));
      yield `${path}.${key} renamed`;
      yield* everyEdit(one, (changed) => put({ ...value, [key]: changed }), `${path}.${key}`);
    }
  } else {
    for (const other of typeof value === 'number'
      ? [value + 1, value - 1, -value]
      : [`${String(value)}x`, 7, ''])
      if (other !== value) {
        put(other);
        yield `${path} as ${other}`;
      }
  }
}

t.test(
  'no listing that differs in one value, entry or name from the planned one is taken for it',
  async (t) => {
    const nft = await fenced();
    const whole = nft.tables.get(spec.table) ?? [];
    const survivors: string[] = [];
    let listing: unknown = whole;
    let count = 0;
    for (const edit of everyEdit(whole, (changed) => void (listing = changed), 'list')) {
      nft.tables.set(spec.table, listing as readonly NftObject[]);
      count += 1;
      if ((await verifyFence(nft, spec)).length === 0) survivors.push(edit);
    }
    t.ok(count > 1000, `${count} edits`);
    t.same(survivors, []);
  },
);

t.test('verify says nothing when the fence holds, whatever the kernel adds', async (t) => {
  const busy = changing('counter', 'drop_dns', (text) => text.replace('"packets":0', '"packets":17'));
  const handles = changing('rule', 'from_a', (text) => text.replace(/"handle":\d+/, '"handle":4711'));
  const sets = changing('rule', 'from_a', (text) => text.replace('[3128,5432]', '[5432,3128]'));
  const newer = changing('rule', 'postrouting', (text) =>
    text.replace('["syn","ack"]', '{"|":["syn","ack"]}'),
  );
  for (const edit of [undefined, busy, handles, sets, newer])
    t.same(await verifyFence(await fenced(edit), spec), []);
});

t.test('verify says that a missing table is missing, and that one for another spec differs', async (t) => {
  t.same(await verifyFence(createFakeNft(), spec), ['table `sallyport_a` is missing']);
  const other = { ...spec, sandboxes: spec.sandboxes.map((one) => ({ ...one, proxy: '10.219.0.9' })) };
  t.match(await verifyFence(await fenced(), other), [
    /^chain `prerouting`|^chain `input`: rule 1 is missing: .*10\.219\.0\.9/,
  ]);
});

t.test(
  'apply sends nothing when the spec is bad, nothing after a failed check, and claims nothing that did not read back',
  async (t) => {
    const calls: string[] = [];
    const nft = createFakeNft();
    const spy = {
      check: async () => void calls.push('check'),
      apply: async () => void calls.push('apply'),
      list: async () => [],
    };
    await t.rejects(applyFence(spy, { ...spec, pool: '' }), { code: 'spec_invalid' });
    t.same(calls, []);
    await t.rejects(applyFence(spy, spec), {
      code: 'nft_failed',
      message: /does not hold it: table `sallyport_a` is missing/,
    });
    t.same(calls, ['check', 'apply']);
    const refusing = {
      ...spy,
      check: async () =>
        await nft.apply({ nftables: [{ delete: { table: { family: 'inet', name: 'none' } } }] }),
    };
    await t.rejects(applyFence(refusing, spec), { code: 'nft_failed' });
    t.same(calls, ['check', 'apply'], 'no apply after the refusal');
  },
);

t.test('apply twice is one fence, remove twice is none, and a neighbour table stays as it was', async (t) => {
  const nft = createFakeNft();
  const neighbour: readonly NftObject[] = [{ table: { family: 'inet', name: 'filter' } }];
  nft.tables.set('filter', neighbour);
  await applyFence(nft, spec);
  const once = nft.tables.get(spec.table);
  await applyFence(nft, spec);
  t.same(nft.tables.get(spec.table), once);
  t.equal(nft.applied.length, 2);
  await removeFence(nft, spec.table);
  await removeFence(nft, spec.table);
  t.same([...nft.tables.keys()], ['filter']);
  t.equal(nft.tables.get('filter'), neighbour);
  await t.rejects(removeFence(nft, 'filter'), { code: 'spec_invalid', message: /not a table of ours/ });
});

t.test(
  'drop counts have every class, and are an error when the table is gone: never zeros by mistake',
  async (t) => {
    const nft = await fenced(
      changing('counter', 'drop_lateral', (text) => text.replace('"packets":0', '"packets":17')),
    );
    const drops = await readDrops(nft, spec.table);
    t.equal(drops.size, 14);
    t.equal(drops.get('lateral'), 17);
    t.equal(drops.get('dns'), 0);
    await removeFence(nft, spec.table);
    await t.rejects(readDrops(nft, spec.table), { code: 'nft_failed', message: /has no counter/ });
  },
);

t.test('the fake refuses what the kernel refuses, and then changes nothing', async (t) => {
  const place = { family: 'inet', table: spec.table } as const;
  const bad = [
    { delete: { table: { family: 'inet', name: 'sallyport_none' } } } as const,
    { add: { rule: { ...place, table: 'sallyport_none', chain: 'input', expr: [] } } },
    { add: { rule: { ...place, chain: 'none', expr: [] } } },
    { add: { rule: { ...place, chain: 'input', expr: [{ jump: { target: 'none' } }] } } },
    { add: { chain: { ...place, table: 'sallyport_none', name: 'x' } } },
  ];
  for (const command of bad) {
    const nft = await fenced();
    const before = new Map(nft.tables);
    const tx = { nftables: [...planFence({ ...spec, table: 'sallyport_b' }).nftables, command] };
    await t.rejects(nft.check(tx), { code: 'nft_failed' });
    await t.rejects(nft.apply(tx), { code: 'nft_failed' });
    t.same(nft.tables, before);
    t.equal(nft.applied.length, 1);
  }
});
