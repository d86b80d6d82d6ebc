// Plain HTTP at the transparent door, on a live proxy: the Host is what is asked for, and the port is the one that the client came to.
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { startHttpOrigin, type HttpOrigin } from '../../helpers/http-origin.ts';
import { dialProxy, nextChunk, readBytes } from '../../helpers/proxy-client.ts';
import { publicAddress, startTestProxy, type TestProxy } from '../../helpers/proxy.ts';
import { freePort } from '../../helpers/tcp.ts';

interface Place {
  readonly port: number;
  readonly proxy: TestProxy;
  readonly origin: HttpOrigin;
}

async function startPlace(t: Test): Promise<Place> {
  const port = await freePort();
  const origin = await startHttpOrigin(t);
  const reason = 'test';
  const policy = {
    allow: [
      { host: 'plain.test', reason, protocol: 'http', ports: [port] },
      { host: 'other.test', reason, protocol: 'http', ports: [port] },
      { host: 'eighty.test', reason, protocol: 'http' },
      { host: 'tls.test', reason, ports: [port] },
    ],
    deny: [{ host: 'no.test', reason }],
  };
  const settings = {
    transparent: [`127.0.0.1:${port}`],
    idleTimeoutMs: 3000,
    headBytes: 2000,
    helloTimeoutMs: 500,
  };
  return { port, origin, proxy: await startTestProxy(t, { policy, origin: origin.port, settings }) };
}

/** Sends `bytes` and reads until the proxy closes. */
async function answerTo(port: number, bytes: string): Promise<string> {
  const socket = await dialProxy(port);
  socket.write(bytes);
  const answer = await readBytes(socket, Infinity);
  socket.destroy();
  return answer.toString('latin1');
}

t.test(
  'a client that knows no proxy reaches the host of its Host, at the address that the proxy resolved',
  async (t) => {
    const { port, proxy, origin } = await startPlace(t);
    const lines = [`Host: PLAIN.test:${port}`, 'Via: 1.1 me', 'Connection: close', 'Cookie: c=1', '', ''];
    const answer = await answerTo(port, ['GET /path?query HTTP/1.1', ...lines].join('\r\n'));
    t.match(answer, /^HTTP\/1\.1 200 OK\r\n[^]*you asked for \/path\?query$/u);
    t.match(origin.seen, [{ method: 'GET', url: '/path?query' }]);
    t.same(origin.seen[0]?.fields, ['host', `plain.test:${port}`, 'connection', 'close', 'cookie', 'c=1']);
    t.match(await proxy.closed(1), {
      mode: 'http',
      host: 'plain.test',
      port,
      verdict: 'allow',
      reason: null,
    });
    t.same(
      proxy.dialled.map(({ host, addresses }) => [host, ...addresses.map(({ text }) => text)]),
      [['plain.test', publicAddress]],
    );
    t.notMatch(JSON.stringify([proxy.decisions, proxy.closes]), /query|path\?/u);
  },
);

t.test('each request of a kept-alive client is judged by itself', async (t) => {
  const { port, proxy, origin } = await startPlace(t);
  const ask = (host: string): string => `GET /${host} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`;
  const socket = await dialProxy(port);
  socket.write(ask('plain.test') + ask('other.test') + ask('evil.test') + ask('plain.test'));
  const said = (await readBytes(socket, Infinity)).toString();
  t.same(
    [...said.matchAll(/HTTP\/1\.1 (\d+)/gu)].map(([, status]) => status),
    ['200', '200', '403'],
  );
  t.same(
    origin.seen.map(({ url }) => url),
    ['/plain.test', '/other.test'],
    'what came behind a refusal reaches nobody',
  );
  t.same(
    proxy.decisions.map(({ mode, host, reason }) => [mode, host, reason]),
    [
      ['http', 'plain.test', 'rule_matched'],
      ['http', 'other.test', 'rule_matched'],
      ['http', 'evil.test', 'no_rule_matched'],
    ],
  );
  socket.destroy();
});

t.test('a head that comes byte by byte is the head that it is', async (t) => {
  const { port } = await startPlace(t);
  const socket = await dialProxy(port);
  const answer = readBytes(socket, Infinity);
  for (const byte of `GET / HTTP/1.1\r\nConnection: close\r\nHost: plain.test:${port}\r\n\r\n`) {
    socket.write(byte);
    await new Promise(setImmediate);
  }
  t.match((await answer).toString(), /^HTTP\/1\.1 200 OK/u);
});

t.test(
  'whatever names no allowed host on this port is refused in HTTP with its reason, and reaches nobody',
  async (t) => {
    const { port, proxy, origin } = await startPlace(t);
    const cases: readonly (readonly [head: string, status: number, reason: string])[] = [
      [`GET / HTTP/1.1\r\nHost: tls.test:${port}\r\n\r\n`, 403, 'protocol_not_allowed'],
      [`GET / HTTP/1.1\r\nHost: eighty.test:${port}\r\n\r\n`, 403, 'port_not_allowed'],
      [`GET / HTTP/1.1\r\nHost: no.test:${port}\r\n\r\n`, 403, 'rule_denied'],
      [`GET / HTTP/1.1\r\nHost: evil.test:${port}\r\n\r\n`, 403, 'no_rule_matched'],
      [`GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`, 403, 'host_is_address'],
      [`GET / HTTP/1.1\r\nHost: [::1]:${port}\r\n\r\n`, 403, 'host_is_address'],
      // The port is not the client's to say.
      ['GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n', 400, 'request_malformed'],
      ['GET / HTTP/1.1\r\nHost: plain.test:81\r\n\r\n', 400, 'request_malformed'],
      [
        `GET http://plain.test:${port}/ HTTP/1.1\r\nHost: plain.test:${port}\r\n\r\n`,
        400,
        'request_malformed',
      ],
      [`CONNECT plain.test:${port} HTTP/1.1\r\nHost: plain.test:${port}\r\n\r\n`, 400, 'request_malformed'],
      [`CONNECT /path HTTP/1.1\r\nHost: plain.test:${port}\r\n\r\n`, 400, 'request_malformed'],
      [`OPTIONS * HTTP/1.1\r\nHost: plain.test:${port}\r\n\r\n`, 400, 'request_malformed'],
      ['GET / HTTP/1.1\r\n\r\n', 400, 'request_malformed'],
      [
        `GET / HTTP/1.1\r\nHost: plain.test:${port}\r\nHost: plain.test:${port}\r\n\r\n`,
        400,
        'request_malformed',
      ],
      [`GET / HTTP/1.1\r\nHost: user@plain.test:${port}\r\n\r\n`, 400, 'request_malformed'],
      ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'request_malformed'],
      [
        `GET / HTTP/1.1\r\nHost: plain.test:${port}\r\nX: ${'a'.repeat(3000)}\r\n\r\n`,
        431,
        'request_malformed',
      ],
      ['GET / HT', 408, 'request_malformed'],
    ];
    for (const [head, status, why] of cases) {
      const said = await answerTo(port, head);
      t.match(
        said,
        new RegExp(`^HTTP/1\\.1 ${status} [^]*\r\nSallyport-Reason: ${why}\r\n`, 'u'),
        head.slice(0, 60),
      );
      t.match(said, /\r\nConnection: close\r\n/u);
    }
    t.ok(proxy.decisions.every(({ mode }) => mode === 'http'));
    t.same([proxy.asked, origin.received().length, proxy.bugs], [[], 0, []]);
  },
);

t.test('a WebSocket becomes a tunnel', async (t) => {
  const port = await freePort();
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi');
      socket.pipe(socket);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const policy = { allow: [{ host: 'plain.test', reason: 'test', protocol: 'http', ports: [port] }] };
  await startTestProxy(t, {
    policy,
    origin: (server.address() as AddressInfo).port,
    settings: { transparent: [`127.0.0.1:${port}`] },
  });
  const socket = await dialProxy(port);
  const lines = [`Host: plain.test:${port}`, 'Connection: Upgrade', 'Upgrade: websocket', '', ''];
  socket.write(['GET / HTTP/1.1', ...lines].join('\r\n'));
  let said = '';
  while (!said.endsWith('hi')) said += String(await nextChunk(socket));
  t.match(said, /^HTTP\/1\.1 101 /u);
  socket.write('echo');
  t.equal(String(await nextChunk(socket)), 'echo');
  socket.destroy();
});
