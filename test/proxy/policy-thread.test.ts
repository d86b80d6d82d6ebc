// A large policy in a thread of its own: it decides the same, others are served meanwhile, and its death is a reload that failed.
import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { adminClient } from '../../proxy/index.ts';
import { checkedPolicy, type PolicyJob } from '../../proxy/policy-check.ts';
import { openPolicyStore, type PolicyStore, type ReloadResult } from '../../proxy/policy-store.ts';
import { checkInThread, threadBounds, type ThreadBounds } from '../../proxy/policy-thread.ts';
import { allowing } from '../helpers/proxy.ts';
import { connectHead, dialProxy, readReply } from '../helpers/proxy-client.ts';
import { policyFolder, startProxyProcess } from '../helpers/proxy-process.ts';

const jobOf = (document: unknown, services: PolicyJob['services'] = []): PolicyJob => ({
  path: 'policy.json',
  bytes: Buffer.from(typeof document === 'string' ? document : JSON.stringify(document)),
  services,
});

/** Rules enough that checking them takes a while. */
const rules = (count: number, name: string): object =>
  allowing(...Array.from({ length: count }, (_, i) => `${name}-${i}.example.test`));

const threads = (): number => readdirSync('/proc/self/task').length;

function messageOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return error instanceof Error ? error.message : '';
  }
  return '';
}

t.test('a thread says what the proxy itself would say: the same policy, the same problems', async (t) => {
  const db = { id: 'service/db', name: 'db', host: 'db.test', port: 5432, reason: 'test' };
  for (const job of [jobOf({}), jobOf(rules(2000, 'n'), [db])]) {
    const here = checkedPolicy(job);
    const there = await checkInThread({ ...job, bytes: Uint8Array.from(job.bytes) }, threadBounds);
    t.equal(there.digest, here.digest);
    t.same(there.document, here.document);
    t.same([...there.services.keys()], [...here.services.keys()]);
  }
  const failing = { tests: [{ target: 'a.test:443', expect: 'allow' }] };
  const taken = [{ ...db, name: 'localhost' }];
  for (const job of [jobOf('{"alow":[]}'), jobOf(failing), jobOf({}, taken)]) {
    const message = messageOf(() => checkedPolicy(job));
    t.not(message, '');
    await t.rejects(checkInThread(job, threadBounds), { message });
  }
});

t.test('a thread that takes too long or is not wanted any more ends with a reason', async (t) => {
  const large = jobOf(rules(20_000, 'n'));
  const fresh = (): PolicyJob => ({ ...large, bytes: Uint8Array.from(large.bytes) });
  await checkInThread(fresh(), threadBounds);
  const before = threads();
  await t.rejects(checkInThread(fresh(), { ...threadBounds, timeoutMs: 1 }), {
    message: /took longer than 1 ms\nhelp: /u,
  });
  const unwanted = new AbortController();
  const check = checkInThread(fresh(), threadBounds, unwanted.signal);
  unwanted.abort(new Error('enough'));
  await t.rejects(check, { message: 'enough' });
  await t.rejects(checkInThread(fresh(), threadBounds, unwanted.signal), { message: 'enough' });
  t.equal(threads(), before, 'no thread is left');
});

interface Folder {
  readonly store: PolicyStore;
  readonly told: readonly ReloadResult[];
  readonly write: (document: object | string) => Promise<void>;
}

/** A store that checks every policy in a thread, and reloads only when told. */
async function storeOf(t: Test, bounds: Partial<ThreadBounds> = {}): Promise<Folder> {
  const folder = await mkdtemp(join(tmpdir(), 'sallyport-thread-'));
  t.teardown(async () => await rm(folder, { recursive: true }));
  const path = join(folder, 'policy.json');
  const write: Folder['write'] = async (document) =>
    await writeFile(path, typeof document === 'string' ? document : JSON.stringify(document));
  await write(allowing('a.test'));
  const told: ReloadResult[] = [];
  const store = await openPolicyStore({
    path,
    services: [],
    clock: Date.now,
    sever: () => 0,
    onReload: (result) => void told.push(result),
    thread: { fromBytes: 0, ...bounds },
  });
  t.teardown(() => store.close());
  store.close();
  return { store, told, write };
}

t.test('a thread that gives no answer leaves the last good policy in force, and says why', async (t) => {
  const { store, told, write } = await storeOf(t, { fromBytes: 1000, timeoutMs: 1 });
  const { current } = store;
  await write(rules(2000, 'n'));
  const result = await store.reload();
  t.match(result, { ok: false, changed: false, digest: current.digest, error: /took longer than 1 ms/u });
  t.equal(store.current, current);
  t.match(store.state, { lastAttempt: 'failed', failures: 1, lastError: /took longer than 1 ms/u });
  t.same(told, [result]);
  await write(allowing('b.test'));
  t.match(await store.reload(), { ok: true, changed: true });
  t.match(store.state, { lastAttempt: 'ok', lastError: null, failures: 1 });
});

t.test('of two reloads at once the second waits for the first, and the last file wins', async (t) => {
  const { store, told, write } = await storeOf(t);
  await write(rules(5000, 'slow'));
  const first = store.reload();
  await write(allowing('quick.test'));
  const second = store.reload();
  await Promise.all([first, second]);
  t.match(store.current.document, allowing('quick.test'));
  t.equal(told.length, 2, 'one after the other');
  t.equal(told[1]?.digest, store.current.digest);
});

t.test(
  'a store that is closed during a reload gives it up: no thread is left, and nobody is told',
  async (t) => {
    const { store, told, write } = await storeOf(t);
    const { current } = store;
    const before = threads();
    await write(rules(20_000, 'n'));
    const [running, waiting] = [store.reload(), store.reload()];
    store.close();
    t.match(await running, { ok: false, error: 'the proxy is closing' });
    t.match(await waiting, { ok: false, error: 'the proxy is closing' });
    t.equal(store.current, current);
    t.match(store.state, { lastAttempt: 'ok', failures: 0 });
    t.same(told, []);
    t.equal(threads(), before);
  },
);

async function statusOf(port: number, authority: string): Promise<number> {
  const socket = await dialProxy(port);
  socket.write(connectHead(authority));
  const { status } = await readReply(socket);
  socket.destroy();
  return status;
}

t.test(
  'a running proxy answers others while it reloads a hundred thousand rules, and drains in the middle of it',
  async (t) => {
    const { folder, policy, hosts, write } = await policyFolder(t, JSON.stringify(rules(100_000, 'old')));
    const admin = join(folder, 'admin.sock');
    const files = ['--policy', policy, '--hosts', hosts, '--audit', join(folder, 'audit.jsonl')];
    const ends = ['--listen', '127.0.0.1:0', '--admin', admin, '--connections-per-second', '100000'];
    const proxy = await startProxyProcess(t, [...files, ...ends]);
    t.equal(await statusOf(proxy.port, 'new-99999.example.test:443'), 403);
    await write(JSON.stringify(rules(100_000, 'new')));
    const reload = { done: false };
    const operator = await adminClient(admin, 60_000);
    t.teardown(async () => await operator.close());
    const reloaded = operator.post('/reload').finally(() => (reload.done = true));
    const during: number[] = [];
    while (!reload.done) during.push(await statusOf(proxy.port, 'nobody.example.test:443'));
    t.match(await reloaded, { status: 200 });
    t.ok(during.length > 50, `${during.length} clients were answered during the reload`);
    t.same(new Set(during), new Set([403]));
    t.equal(await statusOf(proxy.port, 'old-99999.example.test:443'), 403, 'the new policy is in force');
    t.equal(await statusOf(proxy.port, 'new-99999.example.test:443'), 502, 'and its last rule too');

    await write(JSON.stringify(rules(100_000, 'third')));
    proxy.child.kill('SIGHUP');
    await statusOf(proxy.port, 'nobody.example.test:443');
    proxy.child.kill('SIGTERM');
    t.match(await proxy.ended, { status: 0 });
  },
);
