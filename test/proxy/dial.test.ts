// Dialling judged addresses: order, failure, time limits, and that no loser stays open.
import { once } from 'node:events';
import t from 'tap';
import { dial, interleave } from '../../proxy/dial.ts';
import { addressOf } from '../helpers/address.ts';
import { dataPlaneUnderTest, readConn } from '../helpers/conn.ts';
import { listen, openSockets } from '../helpers/tcp.ts';
import { loopbackGrant } from '../helpers/tcp-grant.ts';
import { listenSilently } from '../helpers/tcp-silent.ts';

const { network } = dataPlaneUnderTest();
t.teardown(() => network.close());
const limits = { network, attemptTimeoutMs: 10_000, totalTimeoutMs: 20_000 };

t.test('the connection goes to the judged address, and nothing is read ahead of the relay', async (t) => {
  await using server = await listen('127.0.0.2');
  const { conn, address, ms } = await dial(loopbackGrant(server.port, '127.0.0.2'), limits);
  const far = await server.accept();
  t.equal(address.text, '127.0.0.2');
  t.equal(far.localAddress, '127.0.0.2');
  t.ok(ms >= 0);
  far.end('early words');
  await once(far, 'finish');
  t.equal(conn.heldBytes, 0);
  t.equal(String(await readConn(conn)), 'early words');
  conn.close();
});

t.test('a refused address is passed over at once', async (t) => {
  await using server = await listen('127.0.0.3');
  const { conn, address } = await dial(loopbackGrant(server.port, '127.0.0.2', '127.0.0.3'), limits);
  t.equal(address.text, '127.0.0.3');
  conn.close();
});

t.test('an address that hangs does not hold up the next one, and is closed when that wins', async (t) => {
  await using server = await listen('127.0.0.3');
  await using silent = await listenSilently('127.0.0.2', server.port);
  const before = openSockets();
  const { conn, address } = await dial(loopbackGrant(silent.port, '127.0.0.2', '127.0.0.3'), limits);
  t.equal(address.text, '127.0.0.3');
  const far = await server.accept();
  t.equal(openSockets(), before + 2, 'only the two ends of the winner are open');
  conn.close();
  far.destroy();
});

t.test('all refused: dial_refused, with each address and why', async (t) => {
  const server = await listen('127.0.0.2');
  await server[Symbol.asyncDispose]();
  await t.rejects(dial(loopbackGrant(server.port, '127.0.0.2', '127.0.0.3', '::1'), limits), {
    code: 'dial_refused',
    stage: 'dial',
    message: /::1 E\w+, 127\.0\.0\.2 ECONNREFUSED, 127\.0\.0\.3 ECONNREFUSED/,
  });
});

t.test('silence ends as dial_timeout, by the limit of one attempt or of all', async (t) => {
  await using silent = await listenSilently('127.0.0.2');
  const leave = loopbackGrant(silent.port, '127.0.0.2');
  const before = openSockets();
  const late = { code: 'dial_timeout', stage: 'dial' };
  await t.rejects(dial(leave, { ...limits, attemptTimeoutMs: 30 }), late, 'one attempt');
  await t.rejects(dial(leave, { ...limits, totalTimeoutMs: 30 }), late, 'all attempts');
  const mixed = loopbackGrant(silent.port, '127.0.0.2', '127.0.0.3');
  await t.rejects(dial(mixed, { ...limits, attemptTimeoutMs: 30 }), late, 'silence and a refusal');
  t.equal(openSockets(), before);
});

t.test('a caller that leaves ends the dial, before or during it', async (t) => {
  await using silent = await listenSilently('127.0.0.2');
  const leave = loopbackGrant(silent.port, '127.0.0.2');
  const before = openSockets();
  await t.rejects(dial(leave, { ...limits, signal: AbortSignal.abort() }), { code: 'dial_refused' });
  const controller = new AbortController();
  const dialling = dial(leave, { ...limits, signal: controller.signal });
  controller.abort();
  await t.rejects(dialling, { code: 'dial_refused', message: /cancelled/ });
  t.equal(openSockets(), before);
});

t.test('an upstream that resets right after accepting is heard, not thrown', async (t) => {
  await using server = await listen('127.0.0.2');
  const { conn } = await dial(loopbackGrant(server.port, '127.0.0.2'), limits);
  (await server.accept()).resetAndDestroy();
  t.equal((await readConn(conn)).length, 0);
  t.equal(conn.isGone, true);
});

t.test('families take turns, IPv6 first, order within a family kept', async (t) => {
  const order = (...texts: string[]): string[] => interleave(texts.map(addressOf)).map(({ text }) => text);
  t.same(order('192.0.2.1', '192.0.2.2', '192.0.2.3', '2001:db8::1'), [
    '2001:db8::1',
    '192.0.2.1',
    '192.0.2.2',
    '192.0.2.3',
  ]);
  t.same(order('2001:db8::2', '2001:db8::1', '192.0.2.1'), ['2001:db8::2', '192.0.2.1', '2001:db8::1']);
  t.same(order('192.0.2.1'), ['192.0.2.1']);
});
