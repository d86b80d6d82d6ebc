// Going out through a parent proxy: what it is told, what its answers become, and that its credentials stay between the two.
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { ParentProxy } from '../../proxy/config-types.ts';
import { loadSettings, ConfigError } from '../../proxy/config.ts';
import { showJson, showLines } from '../../proxy/config-page.ts';
import { readTold } from '../../proxy/config-sources.ts';
import { dialer } from '../../proxy/parent.ts';
import { buildHello } from '../helpers/hello.ts';
import { startEcho, startOrigin, type Origin } from '../helpers/origin.ts';
import { closed, connectHead, dialProxy, nextChunk, readBytes } from '../helpers/proxy-client.ts';
import { address, allowing, publicAddress, startTestProxy, type TestProxy } from '../helpers/proxy.ts';
import { loopbackGrant } from '../helpers/tcp-grant.ts';

const policy = allowing('api.a.test');
const hello = buildHello({ serverName: 'api.a.test' });

/** A parent that answers every CONNECT with `answer`; after a 200 it joins the client to `origin`. */
async function startParent(
  t: Test,
  answer: string,
  origin?: Origin,
): Promise<{ port: number; heads: string[] }> {
  const heads: string[] = [];
  const server = await startOrigin(t, (socket) => {
    socket.once('data', (head: Buffer) => {
      heads.push(head.toString());
      socket.write(answer);
      if (origin === undefined) return;
      const far = connect(origin.port, '127.0.0.1');
      far.on('error', () => {});
      socket.pipe(far).pipe(socket);
    });
  });
  return { port: server.port, heads };
}

async function proxyBehind(
  t: Test,
  parent: Partial<ParentProxy> & { port: number },
  { resolvesNames = false, dialTimeoutMs = 5000 } = {},
): Promise<TestProxy> {
  const resolver = { resolve: async () => [address('127.0.0.1')] };
  const dial = dialer({
    parent: { host: '127.0.0.1', credentials: null, ...parent },
    resolvesNames,
    resolver,
  });
  return await startTestProxy(t, {
    policy,
    deps: { dial },
    settings: { dialTimeoutMs, idleTimeoutMs: 3000 },
  });
}

const yes = 'HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n';

t.test(
  'the parent is told the judged address, never the name, and carries the tunnel (failure 31)',
  async (t) => {
    const origin = await startEcho(t);
    const parent = await startParent(t, `${yes}early`, origin);
    const proxy = await proxyBehind(t, { port: parent.port, credentials: 'user:pä:ss' });
    const socket = await dialProxy(proxy.port);
    socket.write(Buffer.concat([Buffer.from(connectHead('api.a.test:443')), hello]));
    const established = 'HTTP/1.1 200 Connection established\r\n\r\n';
    const whole = Buffer.concat([Buffer.from(`${established}early`), hello]);
    t.same(
      await readBytes(socket, whole.length),
      whole,
      'what came behind the 200 of the parent is not lost',
    );
    socket.destroy();
    const basic = Buffer.from('user:pä:ss').toString('base64');
    t.same(parent.heads, [
      `CONNECT ${publicAddress}:443 HTTP/1.1\r\nHost: ${publicAddress}:443\r\nProxy-Authorization: Basic ${basic}\r\n\r\n`,
    ]);
    t.match(await proxy.closed(1), { address: publicAddress, verdict: 'allow' });
    t.notMatch(JSON.stringify([proxy.decisions, proxy.closes]), /pä|cHD|Basic/u);
  },
);

t.test('told so in words, it is given the name, and a parent with a name is looked up', async (t) => {
  const parent = await startParent(t, yes);
  const proxy = await proxyBehind(t, { port: parent.port, host: 'parent.test' }, { resolvesNames: true });
  const { socket } = await proxy.connect('api.a.test:443');
  socket.destroy();
  t.same(parent.heads, ['CONNECT api.a.test:443 HTTP/1.1\r\nHost: api.a.test:443\r\n\r\n']);
});

t.test(
  'a parent that says no, says nothing, or is not there is a failure of the world, with nothing sent after its head',
  async (t) => {
    const says: [string, number, string][] = [
      ['HTTP/1.1 407 Proxy Authentication Required\r\n\r\n', 502, 'dial_refused'],
      ['HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n', 502, 'dial_refused'],
      ['HTTP/1.1 2000 OK\r\n\r\n', 502, 'dial_refused'],
      ['HTTP/2 200 OK\r\n\r\n', 502, 'dial_refused'],
      [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(17_000)}`, 502, 'dial_refused'],
      ['HTTP/1.1 504 Gateway Timeout\r\n\r\n', 504, 'dial_timeout'],
      ['HTTP/1.1 200 OK\r\n', 504, 'dial_timeout'],
    ];
    for (const [answer, status, reason] of says) {
      const parent = await startParent(t, answer);
      const proxy = await proxyBehind(t, { port: parent.port }, { dialTimeoutMs: 200 });
      t.match(
        await proxy.connect('api.a.test:443', { after: hello }),
        { status, body: { reason } },
        answer.slice(0, 20),
      );
      t.equal(parent.heads.length, 1);
      t.same(proxy.bugs, []);
    }
    const gone = await proxyBehind(t, { port: 1 });
    t.match(await gone.connect('api.a.test:443'), { status: 502, body: { reason: 'dial_refused' } });
  },
);

t.test('two attempts that the parent answers at once are one tunnel, and the other is closed', async (t) => {
  const asked: Socket[] = [];
  const parent = await startOrigin(t, (socket) => {
    socket.once('data', () => {
      asked.push(socket);
      // The second attempt begins while the first one waits.
      if (asked.length === 2) for (const one of asked) one.write(yes);
    });
  });
  const dial = dialer({
    parent: { host: '127.0.0.1', port: parent.port, credentials: null },
    resolvesNames: false,
    resolver: { resolve: async () => [] },
  });
  const proxy = await startTestProxy(t, {
    policy,
    answers: () => [publicAddress, '93.184.215.15'],
    deps: { dial },
  });
  const client = await dialProxy(proxy.port);
  client.write(connectHead('api.a.test:443'));
  await nextChunk(client);
  await Promise.race(asked.map(async (socket) => await closed(socket)));
  t.equal(asked.filter((socket) => socket.destroyed).length, 1, 'the loser');
  client.destroy();
  await Promise.all(asked.map(async (socket) => await closed(socket)));
});

t.test("a service on this machine's own loopback is not the parent's to reach", async (t) => {
  const origin = await startOrigin(t);
  const parent = await startParent(t, yes);
  const proxy = await startTestProxy(t, { policy });
  const resolver = { resolve: async () => [address('127.0.0.1')] };
  const dial = dialer({
    parent: { host: '127.0.0.1', port: parent.port, credentials: null },
    resolvesNames: false,
    resolver,
  });
  const limits = { network: proxy.deps.network, attemptTimeoutMs: 1000, totalTimeoutMs: 1000 };
  const { conn } = await dial(loopbackGrant(origin.port, '127.0.0.1'), limits);
  conn.close();
  t.same([parent.heads.length, origin.sockets.length >= 0], [0, true]);
});

t.test('the setting is read strictly, and its password is neither shown nor repeated', async (t) => {
  const given = (text: string) => ({
    flags: new Map([
      ['policy', ['p.json']],
      ['parent', [text]],
    ]),
    env: {},
    file: null,
  });
  const read = (text: string) => loadSettings(given(text)).parent;
  t.same(read('http://10.0.0.5:3128'), { host: '10.0.0.5', port: 3128, credentials: null });
  t.same(read('http://u:p%40ss%3A@Proxy.corp.example:8080/'), {
    host: 'proxy.corp.example',
    port: 8080,
    credentials: 'u:p@ss:',
  });
  t.same(read('http://[2001:db8::1]:3128'), { host: '2001:db8::1', port: 3128, credentials: null });
  t.equal(read('none'), null);
  for (const bad of [
    'https://u:SECRET@a.test:1',
    'http://u:SECRET@a.test',
    'http://SECRET@a.test:1',
    'http://u:SECRET%0d%0a@a.test:1',
    'http://u:SECRET@a.test:0',
    'http://u:SECRET@a.test:1/path',
    'u:SECRET@a.test:1',
    'http://u:SECRET%@a.test:1',
  ]) {
    t.throws(() => read(bad), ConfigError, bad);
    t.throws(() => read(bad), { message: /^(?![^]*SECRET)/u }, bad);
  }
  const { told, origins } = readTold(given('http://u:SECRET@a.test:1'));
  for (const withOrigin of [true, false]) {
    const shown = showLines(told, origins, withOrigin) + showJson(told, origins, withOrigin);
    t.match(shown, /http:\/\/\*\*\*@a\.test:1/u);
    t.notMatch(shown, /SECRET/u);
  }
  const names = {
    flags: new Map([
      ['policy', ['p.json']],
      ['parentResolvesNames', ['true']],
    ]),
    env: {},
    file: null,
  };
  t.throws(() => loadSettings(names), ConfigError, 'there is nobody who could');
});
