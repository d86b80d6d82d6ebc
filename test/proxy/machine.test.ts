// A proxy against the limits of its machine: an address of its own that is public, descriptors that run out, files it may not read.
import { spawnSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readdirSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { descriptorShortage } from '../../proxy/descriptors.ts';
import { createTtlCache } from '../../proxy/dns-cache.ts';
import { resolverLimits } from '../../proxy/client-plane.ts';
import { chooseDataPlane } from '../../proxy/data-plane.ts';
import { needs } from '../helpers/needs.ts';
import { makeNetns } from '../helpers/netns.ts';
import { connectHead, dialProxy, readReply } from '../helpers/proxy-client.ts';
import { policyFolder, runSallyport, startProxyProcess } from '../helpers/proxy-process.ts';
import { allowing, startTestProxy } from '../helpers/proxy.ts';

const root = join(import.meta.dirname, '../..');
const own = '93.184.215.14';

t.test(
  'a name that leads to a public address of the proxy host itself is refused (failure 34)',
  { skip: needs(t, ['root', 'netns']) },
  async (t) => {
    const ns = await makeNetns(t, 'own');
    await ns.must(['ip', 'addr', 'add', `${own}/32`, 'dev', 'lo']);
    const policy = JSON.stringify(allowing('own.test'));
    const { policy: path, hosts } = await policyFolder(t, policy, `${own} own.test\n`);
    // Inside the namespace: the proxy, something on its public address that would answer, and a client.
    const script = `
      import { createServer } from 'node:net';
      import { startProxy } from '${root}/proxy/start.ts';
      import { testSettings } from '${root}/test/helpers/proxy.ts';
      import { connectHead, dialProxy, readReply } from '${root}/test/helpers/proxy-client.ts';
      let reached = 0;
      await new Promise((done) => createServer(() => (reached += 1)).listen(443, '${own}', done));
      const settings = { ...testSettings, policy: '${path}', hosts: '${hosts}', audit: '/dev/null' };
      const proxy = await startProxy(settings);
      const client = await dialProxy(proxy.listening[0].port);
      client.write(connectHead('own.test:443'));
      const { status, body } = await readReply(client);
      console.log(JSON.stringify({ status, reason: body.reason, reached }));
      process.exit(0);`;
    const argv = [process.execPath, '--input-type=module-typescript', '-e', script];
    const { stdout, stderr } = await ns.run(argv);
    t.same(JSON.parse(stdout), { status: 403, reason: 'address_not_public', reached: 0 }, stderr);
  },
);

t.test(
  'with no descriptor at all, not even the one in reserve, the listener lives on and serves again (failure 67)',
  { skip: needs(t, ['prlimit']) },
  async (t) => {
    const { policy, folder } = await policyFolder(t, '{}');
    const options = ['--policy', policy, '--listen', '127.0.0.1:0', '--audit', join(folder, 'audit')];
    const { child, port } = await startProxyProcess(t, options);
    const limit = (count: string): void => {
      const { status } = spawnSync('prlimit', ['--pid', String(child.pid), `--nofile=${count}`]);
      t.equal(status, 0);
    };
    const open = (): number => readdirSync(`/proc/${child.pid}/fd`).length;
    const before = open();
    limit('3:4096');
    const waiting = await dialProxy(port);
    waiting.write(connectHead('a.test:443'));
    // The descriptor that libuv keeps for this is used up by the first accept that fails; nothing tells of it, so this asks again.
    while (open() >= before) await delay(5);
    limit('4096:4096');
    t.equal((await readReply(waiting)).status, 403);
    t.equal(child.exitCode, null, 'it is alive');
  },
);

t.test('an accept that fails is one client lost, and is told of; it is not the process', async (t) => {
  const servers: Server[] = [];
  const started = 'tracing:net.server.listen:asyncEnd';
  const onStarted = (message: unknown): void => {
    const server: unknown = Reflect.get(Object(message), 'server');
    if (server instanceof Server) servers.push(server);
  };
  subscribe(started, onStarted);
  t.teardown(() => unsubscribe(started, onStarted));
  const proxy = await startTestProxy(t, {
    policy: {},
    expectsBugs: true,
    deps: chooseDataPlane('javascript'),
  });
  const [server] = servers;
  // The libuv of today drops such a client without a word; others have told of it here.
  server?.emit('error', new Error('accept EMFILE'));
  t.match(proxy.bugs, [{ error: { message: 'accept EMFILE' }, stage: 'accept' }]);
});

t.test(
  'a policy that only root may read does not start a proxy that gives up root: no reload could work',
  { skip: needs(t, ['root']) },
  async (t) => {
    const { policy, folder } = await policyFolder(t, '{}');
    await chmod(folder, 0o755);
    await chmod(policy, 0o600);
    const flags = ['--policy', policy, '--listen', '127.0.0.1:0', '--audit', '/dev/null', '--hosts', 'none'];
    const { status, stderr } = await runSallyport(['proxy', ...flags, '--user', '65534:65534']);
    t.match(
      stderr,
      /^error: policy `.*` cannot be read: EACCES.*\nhelp: let the user the proxy becomes read/mu,
    );
    t.equal(status, 2);
  },
);

t.test('fewer descriptors than the settings may need are warned of at the start', async (t) => {
  const limits = (soft: string): string =>
    `Limit                     Soft Limit           Hard Limit           Units\nMax open files            ${soft}                 524288               files\n`;
  t.match(descriptorShortage({ maxTunnels: 4096 }, limits('1024')), {
    limit: 1024,
    needed: 12_288,
    help: /LimitNOFILE=.* 12288, .*--max-tunnels to 341/u,
  });
  for (const enough of ['12288', 'unlimited'])
    t.equal(descriptorShortage({ maxTunnels: 4096 }, limits(enough)), undefined);
  t.equal(descriptorShortage({ maxTunnels: 4096 }, ''), undefined, 'not known');
  const { policy } = await policyFolder(t, '{}');
  const flags = ['--policy', policy, '--listen', '127.0.0.1:0', '--max-tunnels', '1000000'];
  const proxy = await startProxyProcess(t, flags);
  t.match(await proxy.logged('fewer file descriptors than the settings may need'), { needed: 3_000_000 });
});

t.test('names without end do not fill the cache of a proxy: it keeps ten thousand', async (t) => {
  const cache = createTtlCache<number>(resolverLimits.maxEntries, () => 0);
  for (let n = 0; n <= 10_000; n += 1) cache.set(`n${n}.test`, n, resolverLimits.minTtlMs);
  t.same([cache.get('n0.test'), cache.get('n1.test'), cache.get('n10000.test')], [undefined, 1, 10_000]);
});
