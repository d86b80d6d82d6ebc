// A whole proxy as it is shipped: its own resolver, dial, audit, metrics, services, signals of life and way to end.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseServiceFlag } from '../../policy/index.ts';
import type { ProxySettings } from '../../proxy/config.ts';
import { startProxy, type SingleProxy } from '../../proxy/start.ts';
import { type AuditLine, assertAuditLines } from '../helpers/audit.ts';
import { startEcho, startOrigin } from '../helpers/origin.ts';
import {
  closed,
  connectHead,
  dialProxy,
  nextChunk,
  readBytes,
  readReply,
  type Reply,
} from '../helpers/proxy-client.ts';
import { policyFolder, startProxyProcess } from '../helpers/proxy-process.ts';
import { allowing, testSettings } from '../helpers/proxy.ts';

interface Started {
  readonly proxy: SingleProxy;
  readonly port: number;
  readonly directory: string;
  readonly bugs: unknown[];
  readonly ask: (authority: string) => Promise<Reply>;
  readonly audit: () => Promise<readonly AuditLine[]>;
}

async function start(t: Test, policy: object, settings: Partial<ProxySettings> = {}): Promise<Started> {
  const directory = t.testdir({ 'policy.json': JSON.stringify(policy), hosts: '' });
  const paths = {
    policy: join(directory, 'policy.json'),
    hosts: join(directory, 'hosts'),
    audit: join(directory, 'audit.jsonl'),
  };
  const bugs: unknown[] = [];
  const all = { ...testSettings, ...paths, resolver: ['127.0.0.1:9'], ...settings };
  const proxy = await startProxy(all, { onBug: (error) => bugs.push(error) });
  t.teardown(async () => await proxy.close());
  const port = proxy.listening[0]?.port ?? 0;
  return {
    proxy,
    port,
    directory,
    bugs,
    async ask(authority) {
      const socket = await dialProxy(port);
      socket.write(connectHead(authority));
      return await readReply(socket);
    },
    async audit() {
      // Close lines are written at the end of the turn.
      await new Promise((resolve) => setImmediate(resolve));
      return assertAuditLines(t, await readFile(paths.audit, 'utf8'));
    },
  };
}

async function dialService(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.2', port, allowHalfOpen: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Connects to a service and waits for the reset; it may come before the connection is known to be there. */
async function cutAtOnce(port: number): Promise<void> {
  const socket = connect({ host: '127.0.0.2', port });
  socket.on('error', () => {});
  await closed(socket);
}

t.test(
  'a named service is reached by an unmodified client on a port of its own, half-closed both ways',
  async (t) => {
    const echo = await startEcho(t);
    const services = [parseServiceFlag(`db=127.0.0.1:${echo.port}`)];
    const { proxy, audit, bugs } = await start(t, {}, { services, serviceListen: '127.0.0.2' });
    t.match(proxy.listening, [{ name: 'connect' }, { name: 'db', address: '127.0.0.2', port: echo.port }]);
    const socket = await dialService(echo.port);
    socket.end('opaque bytes, no hello');
    t.equal(String(await readBytes(socket, 22)), 'opaque bytes, no hello');
    t.equal(await nextChunk(socket), null);
    await proxy.table.idle();
    t.match(await audit(), [
      {
        event: 'decision',
        mode: 'service',
        reason: 'service_matched',
        rule: 'service/db',
        addresses: ['127.0.0.1'],
      },
      { event: 'close', cause: 'both_ended', up: 22, down: 22 },
    ]);
    t.same(bugs, []);
  },
);

t.test(
  'two services on one port are each at an address of their own; without one nothing starts',
  async (t) => {
    const greet = (socket: Socket): void => void socket.end(`at ${socket.localAddress}`);
    const { port } = await startOrigin(t, greet, { address: '127.0.0.5' });
    await startOrigin(t, greet, { address: '127.0.0.6', port });
    const services = ['127.0.0.5', '127.0.0.6'].map((at, i) => parseServiceFlag(`db${i}=${at}:${port}`));
    const serviceListen = '127.0.0.2';
    const at = (address: string) => ({ services, serviceListen, serviceAt: [{ name: 'db1', address }] });
    const clash = { services, serviceListen };
    await t.rejects(start(t, {}, clash), {
      message: `services \`db0\` and \`db1\` are both to be at \`127.0.0.2:${port}\`\nhelp: give one of them an address of its own: --service-at db1=ADDR`,
    });
    const stranger = { name: 'db2', address: '127.0.0.3' };
    await t.rejects(start(t, {}, { ...clash, serviceAt: [stranger] }), /there is no service `db2`/u);
    const { proxy } = await start(t, {}, at('127.0.0.3'));
    t.match(proxy.listening.slice(1), [
      { name: 'db0', address: '127.0.0.2', port },
      { name: 'db1', address: '127.0.0.3', port },
    ]);
    const said = async (host: string): Promise<string> => {
      const socket = connect({ host, port });
      const chunks: Buffer[] = [];
      for await (const chunk of socket) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks).toString();
    };
    t.same([await said('127.0.0.2'), await said('127.0.0.3')], ['at 127.0.0.5', 'at 127.0.0.6']);
  },
);

t.test('a server that speaks first, to a client that only listens, gets through', async (t) => {
  const origin = await startOrigin(t, (socket) => void socket.end('220 ready\r\n'));
  const services = [parseServiceFlag(`smtp=127.0.0.1:${origin.port}`)];
  await start(t, {}, { services, serviceListen: '127.0.0.2' });
  const socket = await dialService(origin.port);
  socket.end();
  t.equal(String(await readBytes(socket, 11)), '220 ready\r\n');
});

t.test(
  'a service of the document may not lead to loopback, and one that a reload takes away is refused',
  async (t) => {
    const echo = await startEcho(t);
    const document = (port: number): object => ({
      services: [{ name: 'db', host: '127.0.0.1', port, reason: 'test' }],
    });
    await t.rejects(start(t, document(echo.port), { serviceListen: '127.0.0.2' }), /./u, 'refused at load');
    const named = { services: [{ name: 'db', host: 'db.test', port: echo.port, reason: 'test' }] };
    const { directory, proxy, audit } = await start(t, named, { serviceListen: '127.0.0.2' });
    await writeFile(join(directory, 'hosts'), '127.0.0.1 db.test\n');
    await cutAtOnce(echo.port);
    await writeFile(join(directory, 'policy.json'), '{}');
    await proxy.reload();
    await cutAtOnce(echo.port);
    await proxy.table.idle();
    t.match(await audit(), [
      { event: 'decision', verdict: 'deny', reason: 'address_not_public' },
      { event: 'close', cause: 'refused', reason: 'address_not_public' },
      { event: 'decision', verdict: 'deny', reason: 'no_rule_matched' },
      { event: 'close', cause: 'refused', reason: 'no_rule_matched' },
    ]);
    t.equal(echo.sockets.length, 0);
  },
);

t.test(
  'an empty policy serves and denies everything; the process stays healthy (failure 2, feature 20)',
  async (t) => {
    const { ask, proxy } = await start(t, {}, { metrics: '127.0.0.1:0' });
    for (const authority of ['a.test:443', 'api.github.com:443', 'localhost:80'])
      t.not((await ask(authority)).status, 200);
    const at = `http://127.0.0.1:${proxy.metrics?.port}`;
    t.equal((await fetch(`${at}/readyz`)).status, 200);
    t.match(
      await (await fetch(`${at}/metrics`)).text(),
      /sallyport_decisions_total\{verdict="deny",reason="no_rule_matched",mode="connect"\} 2/u,
    );
  },
);

t.test(
  'each own address is refused on each own port, by whatever name (failure 34, feature 89)',
  async (t) => {
    const own = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      .map(({ address }) => address);
    const { ask, directory, proxy } = await start(
      t,
      { allow: [{ host: 'own.test', reason: 'x', ports: [443, 9464] }] },
      { metrics: '127.0.0.1:0' },
    );
    const ports = [proxy.metrics?.port ?? 0, ...proxy.listening.map(({ port }) => port)];
    for (const address of own) {
      const literal = address.includes(':') ? `[${address}]` : address;
      for (const port of ports) t.match(await ask(`${literal}:${port}`), { status: 403 });
      await writeFile(join(directory, 'hosts'), `${address} own.test\n`);
      t.match(await ask('own.test:9464'), { status: 403, body: { reason: 'address_not_public' } }, address);
    }
  },
);

t.test(
  'every line of the audit is JSON of its own, a decision before its close, whatever clients send (failure 66)',
  async (t) => {
    const { port, proxy, audit } = await start(t, allowing('a.test'));
    const noise = [
      'CONNECT a\n.test:443 HTTP/1.1\r\n\r\n',
      'GET /\u001b[2J HTTP/1.1\r\n\r\n',
      connectHead(`${'a'.repeat(5000)}:443`),
      connectHead('evil.test:443'),
    ];
    for (const bytes of noise) {
      const socket = await dialProxy(port);
      socket.write(bytes);
      await readReply(socket);
    }
    await proxy.table.idle();
    const lines = await audit();
    t.equal(lines.length, 2 * noise.length);
    const ids = new Set(lines.map((line) => line.tunnel));
    const orders = [...ids].map((id) =>
      lines
        .filter((line) => line.tunnel === id)
        .map((line) => line.event)
        .join(' '),
    );
    t.same(
      orders,
      noise.map(() => 'decision close'),
    );
  },
);

t.test('a drain takes nobody new, lets a tunnel finish, and cuts who is left at the limit', async (t) => {
  const echo = await startEcho(t);
  const services = [parseServiceFlag(`db=127.0.0.1:${echo.port}`)];
  for (const finishes of [true, false]) {
    const { proxy, port, audit } = await start(t, {}, { services, serviceListen: '127.0.0.2' });
    const tunnel = await dialService(echo.port);
    tunnel.write('x');
    await readBytes(tunnel, 1);
    const idle = await dialProxy(port);
    const drained = proxy.drain(finishes ? 60_000 : 50);
    t.equal((await readReply(idle)).status, 503, 'who has not asked is told at once');
    const late = connect(port, '127.0.0.1');
    await t.rejects(once(late, 'connect'), { code: 'ECONNREFUSED' });
    if (finishes) tunnel.end();
    await closed(tunnel.resume());
    await drained;
    const last = (await audit()).filter((line) => line.mode === 'service' && line.event === 'close');
    t.match(last, [
      finishes ? { cause: 'both_ended', reason: null } : { cause: 'severed', reason: 'draining' },
    ]);
  }
});

t.test('what cannot be started says why, and leaves no port open', async (t) => {
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const portOf = (server: typeof free): string =>
    `127.0.0.1:${Reflect.get(Object(server.address()), 'port')}`;
  const at = portOf(free);
  free.close();
  await once(free, 'close');
  t.teardown(() => void taken.close());
  await t.rejects(start(t, {}, { listen: [at, portOf(taken)] }), /EADDRINUSE[^]*help: /u);
  await t.rejects(
    start(t, {}, { listen: [at, '0.0.0.0:0'] }),
    /every network[^]*help: .*--allow-wildcard-bind/u,
  );
  await t.rejects(start(t, {}, { listen: ['[::]:0'] }), /every network/u);
  await t.rejects(start(t, {}, { listen: [at], user: '0:0' }), /is not a user to become/u);
  await t.rejects(start(t, {}, { listen: [at], user: 'nobody' }), /UID:GID/u);
  await t.rejects(
    start(t, {}, { listen: [at], principals: [{ name: 'x', source: '10.0.0.1/8', listen: null }] }),
    /principal `x`/u,
  );
  await t.rejects(start(t, {}, { listen: [at], policy: '/nonexistent/policy.json' }), /does not exist/u);
  await t.rejects(
    start(t, {}, { listen: [at], hosts: '/nonexistent/hosts' }),
    /hosts file[^]*help: .*--hosts/u,
  );
  await t.rejects(start(t, {}, { listen: [at], hosts: t.testdirName }), /hosts file/u);
  const again = await start(t, {}, { listen: [at] });
  t.equal(again.proxy.listening[0]?.address, '127.0.0.1', 'the port is free after all those');
  const wide = await start(t, {}, { listen: ['0.0.0.0:0'], allowWildcard: true });
  t.equal(wide.proxy.listening[0]?.address, '0.0.0.0');
});

t.test(
  'as root it becomes the user it is told, with no other groups, once it listens',
  { skip: process.getuid?.() !== 0 && 'not root' },
  async (t) => {
    const { policy, folder } = await policyFolder(t, '{}');
    await chmod(folder, 0o755);
    const groups = process.getgroups?.() ?? [];
    // What it is started with, so that there is something to give up.
    process.setgroups?.([4, 24]);
    t.teardown(() => process.setgroups?.(groups));
    const options = ['--policy', policy, '--listen', '127.0.0.1:0', '--user', '65534:65534'];
    const { child } = await startProxyProcess(t, options);
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8');
    t.match(status, /^Uid:(\t65534){4}$/mu);
    t.match(status, /^Gid:(\t65534){4}$/mu);
    t.match(status, /^Groups:[\t ]*(65534 ?)?$/mu);
    t.match(status, /^CapEff:\t0+$/mu);
  },
);

t.test(
  'out of descriptors it loses clients and not its listener: afterwards a good client is served (failure 67)',
  async (t) => {
    const { policy, folder } = await policyFolder(t, '{}');
    const options = ['--policy', policy, '--listen', '127.0.0.1:0', '--audit', join(folder, 'audit')];
    const { child, port } = await startProxyProcess(t, options);
    execFileSync('prlimit', ['--pid', String(child.pid), '--nofile=64']);
    const dialled = Array.from({ length: 200 }, async () => await dialProxy(port).catch(() => undefined));
    const flood = (await Promise.all(dialled)).filter((socket) => socket !== undefined);
    // Those beyond the limit are accepted and closed at once, so that the listener does not spin on them.
    if (flood.length === 200) await Promise.race(flood.map(closedByPeer));
    for (const socket of flood) socket.destroy();
    t.equal((await untilAnswered(port)).status, 403);
    t.equal(child.exitCode, null, 'it is alive');
  },
);

async function closedByPeer(socket: Socket): Promise<void> {
  await nextChunk(socket);
}

async function untilAnswered(port: number): Promise<Reply> {
  for (;;) {
    const socket = await dialProxy(port).catch(() => undefined);
    socket?.write(connectHead('a.test:443'));
    const reply = socket === undefined ? undefined : await readReply(socket);
    if (reply !== undefined && reply.status !== 0) return reply;
  }
}
