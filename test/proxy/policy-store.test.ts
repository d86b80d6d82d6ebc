// The policy in force: replaced whole or not at all, and what a reload does to tunnels that are open.
import { renameSync, writeFileSync } from 'node:fs';
import { mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { Policy } from '../../policy/index.ts';
import { openPolicyStore, type PolicyStore, type ReloadResult } from '../../proxy/policy-store.ts';
import { buildHello } from '../helpers/hello.ts';
import { startEcho } from '../helpers/origin.ts';
import { closed, connectHead, dialProxy, readBytes, readReply, type Reply } from '../helpers/proxy-client.ts';
import {
  allowing,
  publicAddress,
  startTestProxy,
  type TestProxy,
  type TestProxyOptions,
} from '../helpers/proxy.ts';

const quiet = { services: [], clock: Date.now, onReload: (): void => {} };

/** A proxy that reloads when it is told, and then only: its watch would count attempts of its own, and be first at times. */
async function startUnwatched(t: Test, options: TestProxyOptions): Promise<TestProxy> {
  const proxy = await startTestProxy(t, options);
  proxy.deps.policyStore.close();
  return proxy;
}

/** An open tunnel to `host` that has carried its hello both ways. */
async function openTunnel(proxy: TestProxy, host: string, shape: { ech?: boolean } = {}): Promise<Reply> {
  const hello = buildHello({ serverName: host, ...shape });
  const reply = await proxy.connect(`${host}:443`, { after: hello });
  await readBytes(reply.socket, hello.length);
  return reply;
}

async function isAlive({ socket }: Reply): Promise<boolean> {
  if (socket.destroyed) return false;
  socket.write('ping');
  return (await readBytes(socket, 4)).toString() === 'ping';
}

t.test('a reload that narrows cuts exactly the tunnels it no longer admits (feature 24)', async (t) => {
  const origin = await startEcho(t);
  const pinned = (addresses: string[]): object => ({ host: 'pin.test', reason: 'test', addresses });
  const ech = (more: object): object => ({ host: 'ech.test', reason: 'test', ...more });
  const wide = allowing('stay.test', 'gone.test', 'denied.test');
  const before = { allow: [...wide.allow, pinned(['93.184.215.0/24']), ech({ ech: 'allow' })] };
  const proxy = await startUnwatched(t, { policy: before, origin: origin.port });
  const stay = await openTunnel(proxy, 'stay.test');
  const cut = [
    await openTunnel(proxy, 'gone.test'),
    await openTunnel(proxy, 'denied.test'),
    await openTunnel(proxy, 'pin.test'),
    await openTunnel(proxy, 'ech.test', { ech: true }),
  ];
  const narrow = allowing('stay.test', 'denied.test');
  await proxy.writePolicy({
    allow: [...narrow.allow, pinned(['93.184.216.0/24']), ech({})],
    deny: [{ host: 'denied.test', reason: 'test' }],
  });
  t.match(
    await proxy.deps.policyStore.reload(),
    { ok: false },
    'allow and deny of one host contradict each other',
  );
  t.ok(
    (await isAlive(stay)) && (await Promise.all(cut.map(isAlive))).every(Boolean),
    'a refused reload cuts nobody',
  );
  await proxy.writePolicy({
    allow: [...allowing('stay.test').allow, pinned(['93.184.216.0/24']), ech({})],
    deny: [{ host: 'denied.test', reason: 'test' }],
  });
  t.match(await proxy.deps.policyStore.reload(), { ok: true, changed: true, severed: 4 });
  await Promise.all(cut.map(async ({ socket }) => await closed(socket)));
  await proxy.closed(4);
  for (const close of proxy.closes)
    t.match(close, { cause: 'severed', reason: 'policy_changed', verdict: 'allow' });
  t.ok(await isAlive(stay), 'the one that is still admitted lives on');
  t.match(await proxy.connect('gone.test:443'), { status: 403, body: { reason: 'no_rule_matched' } });
  stay.socket.destroy();
});

t.test('a reload that widens or says the same cuts nobody', async (t) => {
  const origin = await startEcho(t);
  const proxy = await startUnwatched(t, { policy: allowing('a.test'), origin: origin.port });
  const tunnel = await openTunnel(proxy, 'a.test');
  const { current } = proxy.deps.policyStore;
  t.match(await proxy.deps.policyStore.reload(), { ok: true, changed: false, severed: 0 });
  t.equal(proxy.deps.policyStore.current, current, 'the same meaning is the same object');
  await proxy.writePolicy(allowing('a.test', 'b.test'));
  t.match(await proxy.deps.policyStore.reload(), { ok: true, changed: true, severed: 0 });
  t.ok(await isAlive(tunnel));
  tunnel.socket.destroy();
});

t.test(
  'a reload reaches tunnels that are not open yet: asked, resolving, and waiting for a hello',
  async (t) => {
    const origin = await startEcho(t);
    const { promise: answer, resolve } = Promise.withResolvers<readonly string[]>();
    const answers = async (host: string): Promise<readonly string[]> =>
      host === 'slow.test' ? await answer : [publicAddress];
    const policy = allowing('slow.test', 'silent.test', 'late.test');
    const proxy = await startUnwatched(t, { policy, origin: origin.port, answers });
    const resolving = await dialProxy(proxy.port);
    resolving.write(connectHead('slow.test:443'));
    const sniffing = await proxy.connect('silent.test:443');
    const late = await dialProxy(proxy.port);
    late.write('CONNECT late.test:443 HTTP/1.1\r\n');
    while (proxy.deps.waiting.open === 0 || proxy.asked.length < 2)
      await new Promise((turn) => setImmediate(turn));
    await proxy.writePolicy({});
    t.match(await proxy.deps.policyStore.reload(), { ok: true, severed: 2 });
    t.match(await readReply(resolving), { status: 403, body: { reason: 'policy_changed' } });
    await closed(sniffing.socket);
    late.write('\r\n');
    t.match(
      await readReply(late),
      { status: 403, body: { reason: 'no_rule_matched' } },
      'judged by the policy of the moment',
    );
    resolve([publicAddress]);
    await proxy.closed(3);
    t.equal(proxy.dialled.length, 1);
  },
);

t.test(
  'a bad reload keeps the last good policy and says so, whatever is wrong with it (failure 45)',
  async (t) => {
    const proxy = await startUnwatched(t, { policy: allowing('a.test') });
    const { policyStore } = proxy.deps;
    const { digest } = policyStore.current;
    const failing = { ...allowing('a.test', 'b.test'), tests: [{ target: 'b.test:443', expect: 'deny' }] };
    const bad: (object | string)[] = [
      '',
      '[]',
      '{',
      '{"allow": 1}',
      '{"version": 2}',
      { allow: [{ host: '*' }] },
      failing,
    ];
    for (const [i, document] of bad.entries()) {
      await proxy.writePolicy(document);
      t.match(await policyStore.reload(), { ok: false, changed: false, digest, error: /./u });
      t.match(policyStore.state, { digest, lastAttempt: 'failed', failures: i + 1, lastError: /./u });
      t.equal((await proxy.connect('b.test:443')).status, 403, 'b.test is never let through');
      t.equal((await proxy.connect('a.test:443')).status, 502, 'a.test still is');
    }
    await proxy.writePolicy(allowing('b.test'));
    t.match(await policyStore.reload(), { ok: true });
    t.match(policyStore.state, { lastAttempt: 'ok', lastError: null, failures: bad.length });
  },
);

t.test('no sequence of reloads ever lets the canary through (failure 45)', async (t) => {
  const proxy = await startUnwatched(t, { policy: {} });
  const documents = fc.constantFrom<object | string>({}, '', '[]', 'null', allowing('a.test'), {
    deny: [{ host: 'a.test', reason: 'x' }],
  });
  const denied = async (sequence: readonly (object | string)[]): Promise<boolean> => {
    for (const document of sequence) {
      await proxy.writePolicy(document);
      const reload = proxy.deps.policyStore.reload();
      if ((await proxy.connect('canary.test:443')).status !== 403) return false;
      await reload;
      if ((await proxy.connect('canary.test:443')).status !== 403) return false;
    }
    return true;
  };
  await fc.assert(fc.asyncProperty(fc.array(documents, { maxLength: 6 }), denied), { numRuns: 30, seed: 1 });
  t.same(proxy.bugs, []);
});

t.test(
  'the first policy must be good: a missing, empty or list-shaped file does not start (failures 2, 46)',
  async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'sallyport-store-'));
    t.teardown(async () => await rm(directory, { recursive: true }));
    const path = join(directory, 'policy.json');
    const open = async (): Promise<PolicyStore> => await openPolicyStore({ path, ...quiet, sever: () => 0 });
    await t.rejects(open(), /does not exist/u);
    for (const text of ['', '[]', 'null', '{"tests":[{"target":"a.test:443","expect":"allow"}]}']) {
      await writeFile(path, text);
      await t.rejects(open(), { message: /./u }, JSON.stringify(text));
    }
    await writeFile(path, '{}');
    (await open()).close();
  },
);

/** A store on a path in a fresh folder, and the next policy that comes into force. */
async function watchedStore(
  t: Test,
  path: string,
): Promise<{ store: PolicyStore; next: () => Promise<Policy> }> {
  let wake: (policy: Policy) => void = () => {};
  const sever = (policy: Policy): number => {
    wake(policy);
    return 0;
  };
  const store = await openPolicyStore({ path, ...quiet, sever });
  t.teardown(() => store.close());
  return { store, next: async () => await new Promise((resolve) => (wake = resolve)) };
}

t.test(
  'a change of the file is seen by itself: written in place, renamed over, or a ConfigMap link swapped',
  async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'sallyport-watch-'));
    t.teardown(async () => await rm(directory, { recursive: true }));
    const write = async (name: string, host: string): Promise<void> =>
      await writeFile(join(directory, name), JSON.stringify(allowing(host)));
    await write('policy.json', 'a.test');
    const plain = await watchedStore(t, join(directory, 'policy.json'));
    for (const host of ['b.test', 'c.test']) {
      const next = plain.next();
      await write('policy.json.new', host);
      await rename(join(directory, 'policy.json.new'), join(directory, 'policy.json'));
      t.match((await next).document, allowing(host), 'renamed over');
    }
    const written = plain.next();
    await write('policy.json', 'd.test');
    t.match((await written).document, allowing('d.test'), 'written in place');

    await write('one', 'one.test');
    await write('two', 'two.test');
    await symlink('one', join(directory, '..data'));
    await symlink('..data', join(directory, 'linked.json'));
    const linked = await watchedStore(t, join(directory, 'linked.json'));
    const next = linked.next();
    await symlink('two', join(directory, '..tmp'));
    await rename(join(directory, '..tmp'), join(directory, '..data'));
    t.match((await next).document, allowing('two.test'), 'link swapped');
  },
);

t.test('every attempt is told of once, good or bad, whether the file or a caller asked for it', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-told-'));
  t.teardown(async () => await rm(directory, { recursive: true }));
  const path = join(directory, 'policy.json');
  await writeFile(path, '{}');
  const told: ReloadResult[] = [];
  let wake: () => void = () => {};
  const onReload = (result: ReloadResult): void => {
    told.push(result);
    wake();
  };
  const store = await openPolicyStore({ path, ...quiet, sever: () => 0, onReload });
  t.teardown(() => store.close());
  const asked = await store.reload();
  t.same(told, [asked], 'asked for');
  const heard = new Promise<void>((resolve) => (wake = resolve));
  await writeFile(path, '[]');
  await heard;
  t.match(told[1], { ok: false, digest: asked.digest });
  t.match(told[1]?.error, `policy \`${path}\` cannot be used: `, 'it names the file');
});

t.test('reloads run one at a time, and those that wait share the next', async (t) => {
  const proxy = await startUnwatched(t, { policy: allowing('a.test') });
  const { policyStore } = proxy.deps;
  const { policy: path } = proxy.deps.settings;
  writeFileSync(`${path}.b`, JSON.stringify(allowing('b.test')));
  const first = policyStore.reload();
  renameSync(`${path}.b`, path);
  const [second, third] = [policyStore.reload(), policyStore.reload()];
  t.equal(second, third);
  await first;
  t.equal((await second).digest, policyStore.current.digest);
  t.match(
    policyStore.current.document,
    allowing('b.test'),
    'what was written before the call is in force after it',
  );
});
