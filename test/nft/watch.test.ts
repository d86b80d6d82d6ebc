// The watch against the fake kernel: what it repairs, what it closes, what it tells. kernel/watch.test.ts has real rules, real news and seconds.
import t from 'tap';
import {
  applyFence,
  createFakeNft,
  FenceError,
  verifyFence,
  watchFence,
  type FakeNft,
  type FenceReport,
  type FenceSpec,
  type NftObject,
  type WatchEvent,
} from '../../nft/index.ts';

const spec: FenceSpec = {
  table: 'sallyport_a',
  pool: '10.219.0.0/16',
  sandboxes: [{ name: 'a', interface: 'sp-a', address: '10.219.0.2', proxy: '10.219.0.1', ports: [3128] }],
};

/** A watch that looks only when the test says so. */
async function rig(t: Tearable) {
  const nft = createFakeNft();
  await applyFence(nft, spec);
  const reports: FenceReport[] = [];
  const news: WatchEvent[] = [];
  const links: string[] = [];
  const faults: { report: boolean; close: boolean; wait: Promise<void> | undefined } = {
    report: false,
    close: false,
    wait: undefined,
  };
  const watch = await watchFence({
    nft,
    spec,
    everyMs: 1_000_000,
    links: {
      close: async () => {
        if (faults.close) throw new Error('no ip program');
        links.push('down');
      },
      open: async () => void links.push('up'),
    },
    report: async (report) => {
      await faults.wait;
      if (faults.report) throw new Error('proxy is away');
      reports.push(report);
    },
    news: (event) => void news.push(event),
  });
  t.teardown(async () => await watch.stop());
  return { nft, watch, reports, news, links, faults };
}

interface Tearable {
  teardown(handler: () => Promise<void>): void;
}

function dropRule(nft: FakeNft): void {
  nft.tables.set(spec.table, (nft.tables.get(spec.table) ?? []).slice(0, -1));
}

const foreign = (hook: string, prio: number, ...expr: readonly object[]): readonly NftObject[] => [
  { table: { family: 'ip', name: 'other' } },
  { chain: { family: 'ip', table: 'other', name: 'c', type: 'filter', hook, prio, policy: 'accept' } },
  { rule: { family: 'ip', table: 'other', chain: 'c', handle: 3, expr } },
];
const arrives = (right: unknown, op = '=='): object => ({
  match: { op, left: { meta: { key: 'iifname' } }, right },
});
const mangle = {
  mangle: { key: { payload: { protocol: 'tcp', field: 'dport' } }, value: 22 },
};

t.test('a fence that moved is put back, told as broken once, and then as whole', async (t) => {
  const { nft, watch, reports, news, links } = await rig(t);
  t.match(reports, [{ ok: true, problems: [], repairs: 0 }]);
  dropRule(nft);
  t.match(await watch.look(), { ok: true, repairs: 1 });
  t.same(await verifyFence(nft, spec), []);
  t.match(reports.slice(1), [
    { ok: false, problems: [/rule 2 is missing/] },
    { ok: true, problems: [] },
  ]);
  t.match(news, [{ event: 'repaired', problems: [/`postrouting`: rule 2 is missing/] }]);
  t.same(links, [], 'the link stayed up: the repair was quicker');
});

t.test('news from the kernel are a look, about whatever table', async (t) => {
  const { nft, watch, news } = await rig(t);
  nft.tables.delete(spec.table);
  nft.say(`{"delete": {"table": {"family": "inet", "name": "${spec.table}"}}}\n`);
  await watch.look(); // comes after the look that the news asked for
  t.match(news, [{ event: 'repaired', problems: ['table `sallyport_a` is missing'] }]);
});

t.test('a report that nobody took comes again, although the fence holds by then', async (t) => {
  const { nft, watch, reports, faults } = await rig(t);
  faults.report = true;
  dropRule(nft);
  await watch.look();
  t.equal(reports.length, 1);
  faults.report = false;
  await watch.look();
  t.match(reports.slice(1), [{ ok: false, problems: [/rule 2 is missing/] }, { ok: true }]);
});

t.test(
  'a listener that stands still holds up no repair, and hears of every break once it moves',
  async (t) => {
    const { nft, watch, reports, news, faults } = await rig(t);
    const { promise: moves, resolve: move } = Promise.withResolvers<void>();
    faults.wait = moves;
    dropRule(nft);
    const first = watch.look();
    while (news.length < 1) await new Promise((resolve) => setImmediate(resolve));
    nft.tables.delete(spec.table);
    const second = watch.look();
    while (news.length < 2) await new Promise((resolve) => setImmediate(resolve));
    t.same(await verifyFence(nft, spec), []);
    t.equal(reports.length, 1, 'nothing was taken meanwhile');
    faults.wait = undefined;
    move();
    await Promise.all([first, second]);
    t.match(reports.slice(1), [
      { ok: false, problems: [/rule 2 is missing/] },
      { ok: true, repairs: 1 },
      { ok: false, problems: ['table `sallyport_a` is missing'] },
      { ok: true, repairs: 2 },
    ]);
  },
);

t.test('when the kernel refuses the repair, the link is down until the fence holds', async (t) => {
  const { nft, watch, reports, news, links } = await rig(t);
  const whole = { ...nft };
  nft.check = async () => await Promise.reject(new FenceError('nft_failed', 'refused', 'none'));
  dropRule(nft);
  t.match(await watch.look(), { ok: false, problems: [/rule 2 is missing/], repairs: 0 });
  await watch.look();
  t.same(links, ['down', 'down'], 'at every look: somebody may have raised it');
  Object.assign(nft, whole);
  await watch.look();
  t.match(links, ['down', 'down', 'up']);
  t.match(
    news.map(({ event }) => event),
    ['closed', 'repaired', 'opened'],
  );
  t.match(reports.at(-1), { ok: true, repairs: 1 });
});

t.test(
  'a kernel that cannot be asked (nft is gone) is a broken fence, and so is a link that stays up',
  async (t) => {
    const { nft, watch, links, faults, news } = await rig(t);
    const whole = { ...nft };
    nft.list = async () =>
      await Promise.reject(new FenceError('nft_missing', 'cannot run `nft`', 'install it'));
    t.match(await watch.look(), { ok: false, problems: ['cannot run `nft`'] });
    t.same(links, ['down']);
    faults.close = true;
    t.match(await watch.look(), { ok: false, problems: ['cannot run `nft`', 'no ip program'] });
    Object.assign(nft, whole);
    faults.close = false;
    t.match(await watch.look(), { ok: true });
    t.same(links, ['down', 'up']);
    t.match(
      news.map(({ event }) => event),
      ['closed', 'opened'],
    );
  },
);

t.test('who takes the table away again and again is not argued with: the link goes down', async (t) => {
  const { nft, watch, links } = await rig(t);
  for (let i = 0; i < 9; i += 1) {
    dropRule(nft);
    t.match(await watch.look(), { ok: true });
  }
  dropRule(nft);
  t.match(await watch.look(), { ok: false, problems: [/put back 10 times in 10 s/] });
  t.same(links, ['down']);
  dropRule(nft);
  t.match(await watch.look(), {
    ok: false,
    repairs: 10,
    problems: [/rule 2 is missing/, /put back 10 times/],
  });
});

t.test('drops are counted on across a table that was made anew', async (t) => {
  const { nft, watch } = await rig(t);
  const count = (packets: number): void => {
    const listing = nft.tables.get(spec.table) ?? [];
    nft.tables.set(
      spec.table,
      listing.map((one) =>
        one['counter']?.['name'] === 'drop_dns' ? { counter: { ...one['counter'], packets } } : one,
      ),
    );
  };
  count(3);
  await watch.zero();
  count(8);
  t.equal((await watch.look()).drops['dns'], 5);
  dropRule(nft);
  t.equal((await watch.look()).drops['dns'], 5);
  count(2);
  t.equal((await watch.look()).drops['dns'], 7);
});

const harmful: readonly [title: string, objects: readonly NftObject[], said: RegExp][] = [
  [
    'a port rewritten on the way in, after our last look',
    foreign('input', 0, mangle),
    /rewrites packets after/,
  ],
  [
    'the same for our interface in a list',
    foreign('input', 0, arrives({ set: ['eth0', 'sp-a'] }), mangle),
    /rewrites packets/,
  ],
  ['the same for a pattern', foreign('input', 0, arrives('sp-*'), mangle), /rewrites packets/],
  ['the same for all but another interface', foreign('input', 0, arrives('eth0', '!='), mangle), /rewrites/],
  [
    'packets sent out at ingress',
    foreign('ingress', 0, { fwd: { dev: 'eth0' } }),
    /sends packets out before/,
  ],
  [
    'packets copied before our first look',
    foreign('prerouting', -400, { dup: { addr: '192.0.2.1' } }),
    /copies/,
  ],
  ['a transparent proxy', foreign('prerouting', -150, { tproxy: { port: 88 } }), /to another socket/],
  ['a program that judges packets', foreign('forward', 0, { queue: null }), /lets a program rewrite/],
  [
    'a harmful rule behind a jump',
    [
      ...foreign('input', 0, { jump: { target: 'd' } }),
      { chain: { family: 'ip', table: 'other', name: 'd' } },
      { rule: { family: 'ip', table: 'other', chain: 'd', expr: [mangle] } },
    ],
    /table ip `other`: chain `c` rewrites/,
  ],
  [
    'a flowtable with our link',
    [{ flowtable: { family: 'inet', table: 'other', name: 'f', dev: ['eth0', 'sp-a'] } }],
    /carries established flows past/,
  ],
];

const harmless: readonly [title: string, objects: readonly NftObject[]][] = [
  ['an accept before everything', foreign('prerouting', -1000, { accept: null })],
  ['an untracked packet', foreign('prerouting', -400, { notrack: null })],
  ['a rewrite before our first look: what it became is judged', foreign('prerouting', -400, mangle)],
  ['NAT: the belts see what it made', foreign('prerouting', -100, { dnat: { addr: '192.0.2.1' } })],
  ['a rewrite on another interface', foreign('input', 0, arrives('eth0'), mangle)],
  ['a rewrite on others than ours', foreign('input', 0, arrives('sp-a', '!='), mangle)],
  ['a copy after our first look', foreign('prerouting', 0, { dup: { addr: '192.0.2.1' } })],
  ['a flowtable of other links', [{ flowtable: { family: 'inet', table: 'other', name: 'f', dev: 'eth0' } }]],
  [
    'a chain that nothing jumps to',
    [{ rule: { family: 'ip', table: 'other', chain: 'lonely', expr: [mangle] } }],
  ],
];

t.test('what another table can do around the fence closes the link; what it cannot, does not', async (t) => {
  for (const [title, objects, said] of harmful) {
    const { nft, watch, links } = await rig(t);
    nft.tables.set('other', objects);
    nft.say('{"add": {"table": {"family": "ip", "name": "other"}}}\n');
    t.match(await watch.look(), { ok: false, problems: [said], repairs: 0 }, title);
    t.equal(links[0], 'down');
    nft.tables.delete('other');
    nft.say('{"delete": {"table": {"family": "ip", "name": "other"}}}\n');
    t.match(await watch.look(), { ok: true });
  }
  for (const [title, objects] of harmless) {
    const { nft, watch } = await rig(t);
    nft.tables.set('other', objects);
    nft.say('{"add": {"table": {"family": "ip", "name": "other"}}}\n');
    t.match(await watch.look(), { ok: true }, title);
  }
});
