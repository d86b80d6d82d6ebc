// Sniffing a client's first bytes: what is told, what is kept, and that no client can stretch or crash it.
import t, { type Test } from 'tap';
import { sniffHello, type Sniffed, type SniffOptions } from '../../proxy/sniff.ts';
import { buildHello } from '../helpers/hello.ts';
import { connPair, dataPlaneUnderTest, readConn, type ConnPair } from '../helpers/conn.ts';

const options: SniffOptions = { maxBytes: 32_768, timeoutMs: 60_000 };
const { network } = dataPlaneUnderTest();
t.teardown(() => network.close());
const hello = buildHello({ serverName: 'a.test', postQuantum: true });

/** Sniffs a fresh connection while `speak` plays its client. */
async function sniff(
  t: Test,
  speak: (far: ConnPair['far']) => unknown,
  more: Partial<SniffOptions> = {},
): Promise<Sniffed & ConnPair> {
  const ends = await connPair(t, network);
  const sniffing = sniffHello(ends.near, { ...options, ...more });
  await speak(ends.far);
  return { ...(await sniffing), ...ends };
}

t.test(
  'a hello in one write, and behind it nothing is lost: the rest is still in the connection',
  async (t) => {
    const { fact, bytes, near, far } = await sniff(t, (far) => far.write(hello));
    t.same(fact, { kind: 'server_name', name: 'a.test', ech: false });
    t.ok(bytes.equals(hello));
    far.end('and more');
    t.equal(String(await readConn(near)), 'and more');
  },
);

t.test('a hello in 1-byte writes is read whole, in order', async (t) => {
  const { fact, bytes } = await sniff(t, async (far) => {
    for (const byte of hello) {
      far.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
  t.match(fact, { kind: 'server_name', name: 'a.test' });
  t.ok(bytes.equals(hello));
});

t.test('bytes that came with the request head count as first bytes', async (t) => {
  const { near, far } = await connPair(t, network);
  near.unread(hello);
  const whole = await sniffHello(near, options);
  t.match(whole, { fact: { kind: 'server_name', name: 'a.test' }, bytes: hello });
  far.write(hello.subarray(10));
  near.unread(hello.subarray(0, 10));
  const halves = await sniffHello(near, options);
  t.ok(halves.bytes.equals(hello));
  t.match(halves.fact, { kind: 'server_name', name: 'a.test' });
});

t.test('data and FIN behind the hello wait for the relay', async (t) => {
  const { near } = await sniff(t, (far) => far.end(Buffer.concat([hello, Buffer.from('x')])));
  t.equal(near.isGone, false);
  t.equal(
    (await readConn(near)).length,
    0,
    'bytes of the same segment were handed back, the FIN was not eaten',
  );
});

t.test('SSH, HTTP, a nested CONNECT and noise after the acceptance are not TLS', async (t) => {
  for (const first of [
    'SSH-2.0-x\r\n',
    'GET / HTTP/1.1\r\n\r\n',
    'CONNECT b.test:443 HTTP/1.1\r\n\r\n',
    '\x00\xff',
  ]) {
    const { fact, bytes } = await sniff(t, (far) => far.write(first, 'latin1'));
    t.same(fact, { kind: 'not_tls' }, JSON.stringify(first));
    t.equal(bytes.toString('latin1'), first);
  }
});

t.test('a malformed hello says what is wrong; one without a name and one with ECH say so', async (t) => {
  const say = async (bytes: Buffer): Promise<object> => (await sniff(t, (far) => far.write(bytes))).fact;
  t.match(await say(buildHello({ serverName: 'a.test', secondServerName: 'b.test' })), {
    kind: 'malformed',
    problem: 'extension 0 is given twice',
  });
  t.same(await say(buildHello({})), { kind: 'no_server_name', ech: false });
  t.same(await say(buildHello({ serverName: 'a.test', ech: true })), {
    kind: 'server_name',
    name: 'a.test',
    ech: true,
  });
});

t.test('a client that is silent, or stretches half a hello, is a timeout', async (t) => {
  t.same((await sniff(t, () => {}, { timeoutMs: 20 })).fact, { kind: 'timeout' });
  const { fact, bytes } = await sniff(t, (far) => far.write(hello.subarray(0, 99)), { timeoutMs: 50 });
  t.same(fact, { kind: 'timeout' });
  t.equal(bytes.length, 99);
});

t.test('1 MB sent before the verdict is held only up to the limit and one read', async (t) => {
  const flood = buildHello({ serverName: 'a.test', padTo: 60_000, recordSize: 1 });
  const { fact, bytes, near } = await sniff(t, (far) =>
    far.write(Buffer.concat([flood, Buffer.alloc(1_000_000)])),
  );
  t.match(fact, { kind: 'malformed', problem: /32768 bytes/ });
  t.ok(bytes.length + near.heldBytes <= 32_768 + 2 * 65_536, `${bytes.length} bytes are held`);
});

t.test('a client that leaves is closed, by FIN, RST, abort or before it began', async (t) => {
  const half = hello.subarray(0, 50);
  t.same((await sniff(t, (far) => far.end(half))).fact, { kind: 'closed' }, 'FIN');
  t.same((await sniff(t, (far) => far.resetAndDestroy())).fact, { kind: 'closed' }, 'RST');
  const left = await connPair(t, network);
  left.near.unread(half);
  left.near.close();
  t.same((await sniffHello(left.near, options)).fact, { kind: 'closed' }, 'gone before');
  const kept = await connPair(t, network);
  const aborted = { ...options, signal: AbortSignal.abort() };
  t.same((await sniffHello(kept.near, aborted)).fact, { kind: 'closed' }, 'aborted before');
  const controller = new AbortController();
  const sniffing = sniffHello(kept.near, { ...options, signal: controller.signal });
  controller.abort();
  t.same((await sniffing).fact, { kind: 'closed' }, 'aborted meanwhile');
  t.equal(kept.near.isGone, false, "the socket stays its owner's");
});

t.test('a RST between the sniff and whatever reads next is no uncaught exception', async (t) => {
  const { near, far } = await connPair(t, network);
  far.write(hello);
  await sniffHello(near, options);
  far.resetAndDestroy();
  t.equal((await readConn(near)).length, 0);
  t.equal(near.isGone, true);
});
