// The second hello after a HelloRetryRequest, read before it goes upstream; with real servers that ask for one, and by hand.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer, TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import type { Conn } from '../../proxy/conn/index.ts';
import { dial } from '../../proxy/dial.ts';
import { followHello, type RetryRequest } from '../../proxy/hello-retry.ts';
import { readServerAnswer } from '../../proxy/server-answer.ts';
import { sniffHello } from '../../proxy/sniff.ts';
import { loopbackGrant } from '../helpers/tcp-grant.ts';
import { buildAnswer, buildHello, record as plainRecord } from '../helpers/hello.ts';
import { connPair, dataPlaneUnderTest, listenWith, readConn, type ConnPair } from '../helpers/conn.ts';

const { network, relay } = dataPlaneUnderTest();
t.teardown(() => {
  relay.close();
  network.close();
});

const record = (type: number, fragment: Buffer): Buffer => plainRecord(fragment, type);
const [retry, serverHello] = [buildAnswer('retry'), buildAnswer('hello')];
const retryBody = retry.subarray(5);

t.test(
  'a HelloRetryRequest is told from a ServerHello at every split, and other answers settle at once',
  async (t) => {
    const answers = (bytes: Buffer): readonly string[] =>
      Array.from(bytes, (_, i) => readServerAnswer(bytes.subarray(0, i + 1)));
    t.equal(readServerAnswer(retry), 'retry');
    t.equal(readServerAnswer(serverHello), 'settled');
    t.same(new Set(answers(retry).slice(0, -1)), new Set(['need_more']), 'never before it is whole');
    t.equal(readServerAnswer(record(21, Buffer.from([2, 40]))), 'settled', 'a fatal alert');
    t.equal(
      readServerAnswer(Buffer.concat([record(21, Buffer.from([1, 112])), retry])),
      'retry',
      'behind a warning alert',
    );
    t.equal(readServerAnswer(Buffer.from('HTTP/1.1 400 Bad Request\r\n')), 'settled');
    const tiny = Buffer.concat([...retryBody].map((byte) => record(22, Buffer.from([byte]))));
    t.equal(readServerAnswer(tiny), 'retry', 'one byte a record');
  },
);

interface Scene {
  readonly client: ConnPair;
  readonly server: ConnPair;
  readonly request: RetryRequest;
}

async function scene(t: Test, hello = buildHello({ serverName: 'a.test' })): Promise<Scene> {
  const [client, server] = [await connPair(t, network), await connPair(t, network)];
  const limits = { maxBytes: 16_384, helloTimeoutMs: 5000, answerTimeoutMs: 5000 };
  const request = {
    client: client.near,
    upstream: server.near,
    hello,
    ...limits,
    signal: new AbortController().signal,
  };
  return { client, server, request };
}

async function secondHello(
  t: Test,
  second: Buffer,
  pieces = 1,
): Promise<{ followed: Awaited<ReturnType<typeof followHello>>; held: Buffer; upstream: number }> {
  const { client, server, request } = await scene(t);
  server.far.resume();
  let upstream = 0;
  server.far.on('data', (chunk: Buffer) => {
    upstream += chunk.length;
  });
  const following = followHello(request);
  server.far.write(retry);
  client.far.resume();
  await once(client.far, 'data');
  for (let i = 0; i < pieces; i += 1) {
    const [from, to] = [i, i + 1].map((n) => Math.floor((n * second.length) / pieces));
    client.far.write(second.subarray(from, to));
  }
  const followed = await following;
  return { followed, held: request.client.takeHeld(), upstream: upstream - request.hello.length };
}

t.test(
  'fronting by HelloRetryRequest: the name in the second hello is read, and nothing of it has gone upstream',
  async (t) => {
    const { followed, upstream } = await secondHello(t, buildHello({ serverName: 'evil.test' }));
    t.same(followed.fact, { kind: 'server_name', name: 'evil.test', ech: false });
    t.ok(upstream <= 0, 'the upstream has seen the first hello at most');
    t.equal(followed.sent.down, retry.length);
  },
);

t.test(
  'a second hello is read behind early data and a change_cipher_spec record, in small pieces',
  async (t) => {
    const before = Buffer.concat([record(20, Buffer.from([1])), record(23, Buffer.alloc(300))]);
    const second = Buffer.concat([before, buildHello({ serverName: 'a.test', ech: true })]);
    const { followed, held } = await secondHello(t, second, 40);
    t.same(followed.fact, { kind: 'server_name', name: 'a.test', ech: true });
    t.same(held, second, 'everything held is handed on');
  },
);

t.test('what is no second hello is refused as what it is', async (t) => {
  t.same((await secondHello(t, record(21, Buffer.from([2, 40])))).followed.fact, { kind: 'not_tls' });
  t.match((await secondHello(t, record(23, Buffer.alloc(16_384)))).followed.fact, { kind: 'malformed' });
});

t.test(
  'an answer that settles it is left for the relay, also when the server leaves in the middle of a record',
  async (t) => {
    const plain = await scene(t);
    const following = followHello(plain.request);
    plain.server.far.write(serverHello);
    const followed = await following;
    t.equal(followed.fact, undefined);
    plain.server.far.end();
    t.same(await readConn(plain.server.near), serverHello);

    const cut = await scene(t);
    const cutShort = followHello(cut.request);
    cut.server.far.end(serverHello.subarray(0, 3));
    t.equal((await cutShort).sent.down, 0);
    t.same(await readConn(cut.server.near), serverHello.subarray(0, 3));
  },
);

t.test('a silent server, a lost client and an abort each end the wait', async (t) => {
  const silent = await scene(t);
  t.equal((await followHello({ ...silent.request, answerTimeoutMs: 20 })).isSilent, true);
  const lost = await scene(t);
  const waiting = followHello(lost.request);
  lost.client.near.close();
  t.equal((await waiting).isSilent, false);
  const aborted = await scene(t);
  t.equal((await followHello({ ...aborted.request, signal: AbortSignal.abort() })).fact, undefined);
});

t.test('a real TLS 1.3 server that wants another curve gets its second hello through', async (t) => {
  const dir = t.testdir();
  const [key, cert] = [join(dir, 'key'), join(dir, 'cert')];
  const subject = ['-subj', '/CN=a.test', '-days', '1', '-keyout', key, '-out', cert];
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', ...subject],
    { stdio: 'ignore' },
  );
  const origin = createTlsServer(
    { key: readFileSync(key), cert: readFileSync(cert), ecdhCurve: 'secp384r1', minVersion: 'TLSv1.3' },
    (socket) => socket.end('hello'),
  );
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  t.teardown(() => origin.close());
  const facts: unknown[] = [];
  const stand = async (client: Conn): Promise<void> => {
    const to = { network, attemptTimeoutMs: 5000, totalTimeoutMs: 5000 };
    const { conn: upstream } = await dial(
      loopbackGrant((origin.address() as { port: number }).port, '127.0.0.1'),
      to,
    );
    const limits = { maxBytes: 16_384, helloTimeoutMs: 5000, answerTimeoutMs: 5000 };
    const { bytes: hello } = await sniffHello(client, { maxBytes: 16_384, timeoutMs: 5000 });
    const { signal } = new AbortController();
    const { fact, sent } = await followHello({ client, upstream, hello, ...limits, signal });
    facts.push(fact);
    const none = { idleTimeoutMs: 5000, maxUpBytes: null, maxDownBytes: null };
    await relay.open({ client, upstream, sent, ...none }).done;
  };
  const middle = await listenWith(network);
  void middle.accept().then(stand);
  t.teardown(() => middle.close());
  const { port } = middle;
  // The client offers a key share for X25519 only, and would take P-384: the server has to ask again.
  const socket: TLSSocket = connectTls({
    port,
    host: '127.0.0.1',
    servername: 'a.test',
    rejectUnauthorized: false,
    ecdhCurve: 'X25519:secp384r1',
  });
  t.equal(String((await once(socket, 'data'))[0]), 'hello');
  socket.destroy();
  t.same(facts, [{ kind: 'server_name', name: 'a.test', ech: false }]);
});
