// A reload that lands between two steps, or in the middle of its own: nobody stays whom the policy in force would not admit.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Address } from '../../policy/index.ts';
import { watchOwnAddresses } from '../../proxy/own-addresses.ts';
import { openPolicyStore } from '../../proxy/policy-store.ts';
import { buildAnswer, buildHello } from '../helpers/hello.ts';
import { startOrigin } from '../helpers/origin.ts';
import { closed, connectHead, dialProxy, readBytes, readReply } from '../helpers/proxy-client.ts';
import {
  address,
  allowing,
  publicAddress,
  startTestProxy,
  type TestProxy,
  type TestProxyOptions,
} from '../helpers/proxy.ts';

async function startUnwatched(t: Test, options: TestProxyOptions): Promise<TestProxy> {
  const proxy = await startTestProxy(t, options);
  proxy.deps.policyStore.close();
  return proxy;
}

/** Takes `document` into force; nobody is cut by the reload itself. */
async function reloadCutsNobody(t: Test, proxy: TestProxy, document: object): Promise<void> {
  await proxy.writePolicy(document);
  t.match(await proxy.deps.policyStore.reload(), { ok: true, changed: true, severed: 0 });
}

const ech = { allow: [{ host: 'a.test', reason: 'test', ech: 'allow' }] };

t.test(
  'a reload during the look-up judges the addresses again: nothing is dialled that it does not admit',
  async (t) => {
    const { promise: answer, resolve } = Promise.withResolvers<readonly string[]>();
    const proxy = await startUnwatched(t, { policy: allowing('a.test'), answers: async () => await answer });
    const client = await dialProxy(proxy.port);
    client.write(connectHead('a.test:443'));
    while (proxy.asked.length === 0) await new Promise((turn) => setImmediate(turn));
    await reloadCutsNobody(t, proxy, {
      allow: [{ host: 'a.test', reason: 'test', addresses: ['93.184.216.0/24'] }],
    });
    resolve([publicAddress]);
    t.match(await readReply(client), { status: 403, body: { reason: 'policy_changed' } });
    t.match(await proxy.closed(1), { cause: 'severed', reason: 'policy_changed' });
    t.same(proxy.dialled, []);
  },
);

t.test(
  'a reload during the wait for the hello judges the hello again: not a byte of it goes upstream',
  async (t) => {
    const origin = await startOrigin(t);
    const proxy = await startUnwatched(t, { policy: ech, origin: origin.port });
    const { socket } = await proxy.connect('a.test:443');
    await reloadCutsNobody(t, proxy, allowing('a.test'));
    socket.write(buildHello({ serverName: 'a.test', ech: true }));
    await closed(socket);
    t.match(await proxy.closed(1), { cause: 'severed', reason: 'policy_changed' });
    t.equal(origin.received().length, 0);
  },
);

t.test(
  'a reload during a HelloRetryRequest judges the second hello again: it never goes upstream',
  async (t) => {
    const first = buildHello({ serverName: 'a.test' });
    const origin = await startOrigin(t, (socket) =>
      socket.once('data', () => socket.write(buildAnswer('retry'))),
    );
    const proxy = await startUnwatched(t, { policy: ech, origin: origin.port });
    const { socket } = await proxy.connect('a.test:443', { after: first });
    await readBytes(socket, buildAnswer('retry').length);
    await reloadCutsNobody(t, proxy, allowing('a.test'));
    socket.write(buildHello({ serverName: 'a.test', ech: true }));
    await closed(socket);
    t.match(await proxy.closed(1), { cause: 'severed', reason: 'policy_changed' });
    t.same(origin.received(), first);
  },
);

t.test('a tunnel that cannot be judged again is cut, and the others are still judged', async (t) => {
  const origin = await startOrigin(t);
  const proxy = await startUnwatched(t, { policy: allowing('a.test'), origin: origin.port });
  const first = await proxy.connect('a.test:443');
  const second = await proxy.connect('a.test:443');
  const { table } = proxy.deps;
  const [firstId] = table.list().map(({ id }) => id);
  const judged = ({ id }: { readonly id: string }): boolean => {
    if (id === firstId) throw new Error('EMFILE');
    return false;
  };
  t.equal(table.severWhere(judged, 'policy_changed'), 1);
  await closed(first.socket);
  t.equal(table.size, 1);
  t.notOk(second.socket.destroyed);
  second.socket.destroy();
});

t.test('hundreds of tunnels are judged again a hundred at a time: others run in between', async (t) => {
  const proxy = await startUnwatched(t, { policy: allowing('a.test') });
  const { table } = proxy.deps;
  const count = 250;
  const clients = await Promise.all(Array.from({ length: count }, async () => await dialProxy(proxy.port)));
  while (table.size < count) await new Promise((turn) => setImmediate(turn));
  const slices = [0];
  const turn = { over: false };
  const next = (): void => {
    slices.push(0);
    if (!turn.over) setImmediate(next);
  };
  setImmediate(next);
  const judged = new Set<string>();
  const cut = await table.severInTurns(({ id }) => {
    slices[slices.length - 1] = (slices.at(-1) ?? 0) + 1;
    judged.add(id);
    return judged.size % 2 === 0;
  }, 'policy_changed');
  turn.over = true;
  t.equal(cut, count / 2);
  t.equal(judged.size, count, 'every one of them');
  t.ok(Math.max(...slices) <= 100, `slices of ${slices.join(', ')}`);
  for (const client of clients) client.destroy();
});

t.test(
  'a swap whose severing failed severs at the next reload, although the policy is the same',
  async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'sallyport-swap-'));
    t.teardown(async () => await rm(directory, { recursive: true }));
    const path = join(directory, 'policy.json');
    await writeFile(path, JSON.stringify(allowing('a.test')));
    const outcomes: (() => number)[] = [
      () => {
        throw new Error('no descriptor is free');
      },
      () => 3,
    ];
    const sever = (): number => outcomes.shift()?.() ?? 0;
    const options = { path, services: [], clock: Date.now, onReload() {} };
    const store = await openPolicyStore({ ...options, sever });
    store.close();
    await writeFile(path, '{}');
    t.match(await store.reload(), { ok: false, severed: 0, error: 'no descriptor is free' });
    t.equal(store.state.lastAttempt, 'failed');
    t.match(await store.reload(), { ok: true, changed: false, severed: 3 });
    t.match(await store.reload(), { ok: true, changed: false, severed: 0 });
    t.same(outcomes, []);
  },
);

t.test('own addresses that cannot be read again stay as they were, until they can', async (t) => {
  const clock = { ms: 0 };
  const looks: (() => readonly Address[])[] = [
    () => [address('192.0.2.1')],
    () => {
      throw new Error('EMFILE');
    },
    () => [address('192.0.2.2')],
  ];
  const look = (): readonly Address[] => looks.shift()?.() ?? [];
  const own = watchOwnAddresses(() => clock.ms, look);
  clock.ms = 1000;
  t.match(own(), [{ text: '192.0.2.1' }]);
  t.match(own(), [{ text: '192.0.2.2' }]);
  t.throws(() =>
    watchOwnAddresses(Date.now, () => {
      throw new Error('EMFILE');
    }),
  );
});
