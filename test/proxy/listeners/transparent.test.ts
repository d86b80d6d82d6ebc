// The transparent door on real sockets: the server name is the request, all three gates judge it, and the refusal is a TLS alert.
import { once } from 'node:events';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import { buildAnswer, buildHello, type HelloShape } from '../../helpers/hello.ts';
import { startOrigin, startTlsOrigin } from '../../helpers/origin.ts';
import { closed, dialProxy, readBytes } from '../../helpers/proxy-client.ts';
import {
  allowing,
  publicAddress,
  startTestProxy,
  type TestProxy,
  type TestProxyOptions,
} from '../../helpers/proxy.ts';
import { freePort, readAll } from '../../helpers/tcp.ts';

async function startDoor(
  t: Test,
  options: Partial<TestProxyOptions> = {},
): Promise<{ proxy: TestProxy; port: number }> {
  const port = await freePort();
  const { allow } = allowing('a.test', 'b.test', 'ech.test');
  const rules = allow.map((rule) => ({
    ...rule,
    ports: [port],
    ...(rule.host === 'ech.test' && { ech: 'allow' }),
  }));
  const policy = { allow: rules, deny: [{ host: 'no.test', reason: 'test' }] };
  const settings = { transparent: [`127.0.0.1:${port}`], ...options.settings };
  return { proxy: await startTestProxy(t, { policy, ...options, settings }), port };
}

/** Sends `bytes` and gives what came back until the proxy's FIN. */
async function answerTo(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = await dialProxy(port);
  socket.write(bytes);
  const said = await readAll(socket);
  socket.destroy();
  return said;
}

const accessDenied = Buffer.of(21, 3, 3, 0, 2, 2, 49);
const internalError = Buffer.of(21, 3, 3, 0, 2, 2, 80);

const hellos: readonly (readonly [HelloShape | string, verdicts: readonly string[]])[] = [
  [{ serverName: 'evil.test' }, ['deny no_rule_matched']],
  [{ serverName: 'sub.a.test' }, ['deny no_rule_matched']],
  [{ serverName: 'no.test' }, ['deny rule_denied']],
  [{ serverName: '1.2.3.4' }, ['deny host_is_address']],
  [{ serverName: 'a.test:443' }, ['deny request_malformed']],
  [{ serverName: 'a_test' }, ['deny request_malformed']],
  [{}, ['deny server_name_missing']],
  [{ ech: true }, ['deny ech_refused']],
  [{ serverNames: ['a.test', 'b.test'] }, ['deny hello_malformed']],
  ['SSH-2.0-OpenSSH_9.2\r\n', ['deny not_tls']],
  // As behind CONNECT, the third gate is after the dial: the name was allowed.
  [{ serverName: 'a.test', ech: true }, ['allow rule_matched', 'deny ech_refused']],
  [{ serverName: 'a.test.' }, ['allow rule_matched', 'deny server_name_mismatch']],
];

t.test(
  'what a hello asks for is refused with its reason and the alert access_denied, and nothing reaches the upstream',
  async (t) => {
    const origin = await startOrigin(t);
    const { proxy, port } = await startDoor(t, { origin: origin.port });
    for (const [shape, verdicts] of hellos) {
      const before = proxy.decisions.length;
      const said = await answerTo(port, typeof shape === 'string' ? Buffer.from(shape) : buildHello(shape));
      t.same(said, accessDenied, JSON.stringify(shape));
      const decided = proxy.decisions.slice(before);
      t.same(
        decided.map(({ verdict, reason }) => `${verdict} ${reason}`),
        verdicts,
      );
      t.ok(decided.every(({ mode }) => mode === 'transparent'));
    }
    t.equal(origin.received().length, 0);
    t.same(proxy.asked, ['a.test', 'a.test'], 'a denied name is never looked up');
  },
);

t.test(
  'a TLS client that knows no proxy reaches the host of its server name, with every byte it sent',
  async (t) => {
    const origin = await startTlsOrigin(t, ['a.test', 'ech.test']);
    const { proxy, port } = await startDoor(t, { origin: origin.port });
    const socket = connectTls({ port, host: '127.0.0.1', servername: 'a.test', ca: origin.certificate });
    socket.write('hi\n');
    t.equal(String((await once(socket, 'data'))[0]), 'hello a.test\n');
    socket.destroy();
    const { mode, host, verdict } = await proxy.closed(1);
    t.same([mode, host, verdict], ['transparent', 'a.test', 'allow']);
    t.same(
      proxy.dialled.map(({ host: name, addresses }) => [name, ...addresses.map(({ text }) => text)]),
      [['a.test', publicAddress]],
      'the address is the one that the proxy resolved',
    );
  },
);

t.test('an alert is what a real client reports', async (t) => {
  const { port } = await startDoor(t);
  const socket = connectTls({ port, host: '127.0.0.1', servername: 'evil.test' });
  const [error] = (await once(socket, 'error')) as [Error];
  t.match(error.message, /alert access denied/);
});

t.test('what the world did is another alert than what the policy said', async (t) => {
  const { proxy, port } = await startDoor(t);
  t.same(
    await answerTo(port, buildHello({ serverName: 'a.test' })),
    internalError,
    'nobody answers the dial',
  );
  t.equal((await proxy.closed(1)).reason, 'dial_refused');
  const full = await startDoor(t, { settings: { maxTunnelsPerPrincipal: 1 } });
  const held = await dialProxy(full.port);
  held.write(buildHello({ serverName: 'a.test' }).subarray(0, 9));
  while (full.proxy.deps.waiting.open === 0) await new Promise((resolve) => setImmediate(resolve));
  t.same(await answerTo(full.port, buildHello({ serverName: 'a.test' })), internalError, 'the proxy is full');
  held.destroy();
});

t.test('another name in the second hello ends the tunnel before it goes upstream', async (t) => {
  const origin = await startOrigin(t, (socket) => void socket.write(buildAnswer('retry')));
  const { proxy, port } = await startDoor(t, { origin: origin.port });
  const hello = buildHello({ serverName: 'a.test' });
  const socket = await dialProxy(port);
  socket.write(hello);
  await readBytes(socket, buildAnswer('retry').length);
  socket.write(buildHello({ serverName: 'b.test' }));
  t.same(await readAll(socket), accessDenied);
  socket.destroy();
  t.equal((await proxy.closed(1)).reason, 'server_name_mismatch');
  t.same(origin.received(), hello);
});

t.test(
  'a client that is slow or leaves half-way: one is refused, the other has asked for nothing',
  async (t) => {
    const { proxy, port } = await startDoor(t, { settings: { helloTimeoutMs: 20 } });
    t.same(await answerTo(port, buildHello({ serverName: 'a.test' }).subarray(0, 40)), accessDenied);
    t.same((await proxy.closed(1)).reason, 'hello_timeout');
    const silent = await dialProxy(port);
    silent.end();
    await closed(silent);
    t.same(await proxy.closed(2).then(({ cause, verdict }) => [cause, verdict]), ['client_gone', null]);
  },
);
