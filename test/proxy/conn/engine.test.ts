// The set-up engine over loopback: what is told of clients and dialled connections, in which order, and what is left behind. The random load is driver.c's.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import t, { type Test } from 'tap';
import { loadConnAddon } from '../../../proxy/conn/addon.ts';
import { listen, readAll, wasReset } from '../../helpers/tcp.ts';
import { connEndurance } from './endurance.ts';
import { callTo, joined, rigFor, type Rig } from './rig.ts';

const addon = loadConnAddon();
if ('problem' in addon) {
  if (process.env['CI'] !== undefined)
    throw new Error(`the set-up engine must be tested here: ${addon.problem}`);
  t.plan(0, `the set-up engine cannot be tested: ${addon.problem}`);
  process.exit();
}

connEndurance();

const { EAGAIN, EBADF, ECONNREFUSED, ECONNRESET, EINVAL } = constants.errno;

/** Resolves when the engine has heard of everything that had arrived before. */
async function settled(t: Test, rig: Rig): Promise<void> {
  const { client, id } = await joined(t, rig);
  client.end('x');
  await rig.next('hup', id);
  rig.addon.close(rig.engine, id, false);
}

const kindsOf = (rig: Rig, id: number): string[] =>
  rig.told.filter((told) => told.id === id).map(({ kind }) => kind);

t.test('a client that has spoken is told with its addresses and its first bytes in one batch', async (t) => {
  const rig = rigFor(t);
  const fd = rig.addon.bind('127.0.0.1', 0, false, 16);
  const port = rig.addon.portOf(fd);
  const client = await callTo(t, port);
  await new Promise((done) => client.write('GET / HTTP/1.1\r\n', done));
  const listener = rig.addon.listen(rig.engine, fd, 16_384);
  const { id, ...accept } = await rig.next('accept');
  t.equal(accept.text, `127.0.0.1 ${client.localPort} 127.0.0.1 ${port}`);
  t.equal(accept.listener, listener);
  t.equal((await rig.next('data', id)).text, 'GET / HTTP/1.1\r\n');
  t.same(rig.batches, [2]);
  t.equal(rig.addon.write(rig.engine, id, Buffer.from('no\n')), 3);
  t.equal(rig.addon.close(rig.engine, id, false), 0);
  t.equal(String(await readAll(client)), 'no\n');
});

t.test('no more than the head is taken, and the rest with its FIN is told as unread', async (t) => {
  const rig = rigFor(t);
  const fd = rig.addon.bind('127.0.0.1', 0, false, 16);
  const client = await callTo(t, rig.addon.portOf(fd));
  await new Promise<void>((done) => client.end('0123456789', done));
  rig.addon.listen(rig.engine, fd, 4);
  const { id } = await rig.next('accept');
  t.equal((await rig.next('data', id)).text, '0123');
  t.equal((await rig.next('hup', id)).a, 6);
  t.equal(rig.read(id, 4), '4567');
  t.equal(rig.read(id), '89');
  t.equal(rig.read(id), '');
  await settled(t, rig);
  t.same(kindsOf(rig, id), [], 'FIN is told once');
});

t.test('a wish is answered once, by the bytes that come or by FIN', async (t) => {
  const rig = rigFor(t);
  const { client, id } = await joined(t, rig);
  t.equal(rig.read(id), -EAGAIN);
  client.write('one');
  t.equal((await rig.next('data', id)).text, 'one');
  client.write('two');
  await settled(t, rig);
  t.same(kindsOf(rig, id), [], 'nobody has wished');
  t.equal(rig.read(id), 'two');
  t.equal(rig.read(id), -EAGAIN);
  t.equal(rig.addon.unread(rig.engine, id), 1);
  client.write('three');
  await settled(t, rig);
  t.same(kindsOf(rig, id), [], 'the wish was taken back');
  t.equal(rig.addon.unread(rig.engine, id), 0);
  t.equal(rig.read(id), 'three');
  t.equal(rig.read(id), -EAGAIN);
  client.end();
  t.equal((await rig.next('data', id)).b, 0);
  await settled(t, rig);
  t.same(kindsOf(rig, id), [], 'the answer was FIN, so it is not told again');
});

t.test('a look is answered only when there is more than was seen, or the end', async (t) => {
  const rig = rigFor(t);
  const { client, id } = await joined(t, rig);
  t.equal(rig.peek(id), -EAGAIN);
  client.write('abc');
  t.equal((await rig.next('data', id)).text, 'abc');
  t.equal(rig.peek(id, 2), 'abc');
  t.equal(rig.peek(id, 3), -EAGAIN);
  await settled(t, rig);
  t.same(kindsOf(rig, id), []);
  client.write('d');
  t.equal((await rig.next('data', id)).text, 'abcd');
  t.equal(rig.peek(id, 4), -EAGAIN);
  client.end();
  t.equal((await rig.next('data', id)).text, 'abcd', 'no more than seen: FIN stands behind');
  t.equal(rig.peek(id, 16_384), -EINVAL, 'never to be answered');
  t.equal(rig.read(id), 'abcd', 'nothing was taken');
  t.equal(rig.read(id), '');
});

t.test('bytes that come one at a time, and are read one at a time, all arrive', async (t) => {
  const text = Buffer.alloc(500, '0123456789abcdef').toString();
  const heard: string[] = [];
  const done = Promise.withResolvers<void>();
  const rig = rigFor(t, {
    on({ kind, id, text }, rig) {
      if (kind !== 'data') return;
      let bytes: string | number = text;
      for (; typeof bytes === 'string' && bytes !== ''; bytes = rig.read(id, 1)) heard.push(bytes);
      if (bytes === '') done.resolve();
    },
  });
  const { client, id } = await joined(t, rig);
  t.equal(rig.read(id, 1), -EAGAIN);
  for (const byte of text) await new Promise((sent) => client.write(byte, sent));
  client.end();
  await done.promise;
  t.equal(heard.join(''), text);
  t.ok(heard.every((bytes) => bytes.length === 1));
});

/** What a reset is told as, by what the client and the engine had done before. `told`: the events; the last has the errno. */
const resets = {
  'before it was accepted': { told: ['failed'], headBytes: 10 },
  'while nobody reads': { told: ['gone'] },
  'while a read waits': { told: ['failed'], before: (rig, id) => rig.read(id) },
  'while a look waits': { told: ['failed'], before: (rig, id) => rig.peek(id) },
  'after its FIN': { told: ['hup', 'gone'], says: (client) => client.end() },
  'after bytes that nobody read': { told: ['gone'], says: (client) => client.write('last words') },
} satisfies Record<string, ResetCase>;

interface ResetCase {
  readonly told: readonly string[];
  readonly headBytes?: number;
  readonly before?: (rig: Rig, id: number) => unknown;
  readonly says?: (client: Socket) => unknown;
}

for (const [when, { told, headBytes, before, says }] of Object.entries<ResetCase>(resets)) {
  t.test(`a reset ${when} is told as ${told.join(', then ')}`, async (t) => {
    const rig = rigFor(t);
    const fd = rig.addon.bind('127.0.0.1', 0, false, 16);
    const client = await callTo(t, rig.addon.portOf(fd));
    if (headBytes !== undefined) await once(client.resetAndDestroy(), 'close');
    rig.addon.listen(rig.engine, fd, headBytes ?? 0);
    const { id } = await rig.next('accept');
    before?.(rig, id);
    says?.(client);
    if (says !== undefined) await settled(t, rig);
    client.resetAndDestroy();
    await settled(t, rig);
    t.same(kindsOf(rig, id), told);
    // A reset after FIN is EPIPE to the kernel.
    const errno = says !== undefined && told.includes('hup') ? constants.errno.EPIPE : ECONNRESET;
    const last = rig.told.findLast((event) => event.id === id);
    t.equal(last?.a, errno);
    t.equal(rig.read(id), told.length === 1 && says !== undefined ? 'last words' : -errno);
    t.equal(rig.read(id), -errno, 'and it is never taken for FIN');
  });
}

t.test('an end both ways is told as gone without an error', async (t) => {
  const rig = rigFor(t);
  const { client, id } = await joined(t, rig);
  t.equal(rig.addon.finish(rig.engine, id), 0);
  t.equal(String(await readAll(client)), '');
  client.end('bye');
  t.equal((await rig.next('hup', id)).a, 3);
  t.same(((await rig.next('gone', id)) satisfies { a: number; b: number }).a, 0);
  t.equal(rig.read(id), 'bye');
});

t.test('a dialled connection is told as connected, then behaves as any other', async (t) => {
  const rig = rigFor(t);
  const server = await listen();
  t.teardown(async () => await server[Symbol.asyncDispose]());
  const id = rig.addon.connect(rig.engine, '127.0.0.1', server.port);
  t.equal(rig.read(id), -EAGAIN, 'a wish may come early');
  const far = await server.accept();
  t.equal((await rig.next('connected', id)).a, 0);
  far.write('hello');
  t.equal((await rig.next('data', id)).text, 'hello');
  far.resetAndDestroy();
  t.equal((await rig.next('gone', id)).a, ECONNRESET);
});

t.test('what cannot be dialled is said at once or by the event', async (t) => {
  const rig = rigFor(t);
  const fd = rig.addon.bind('127.0.0.1', 0, false, 1);
  const closed = rig.addon.portOf(fd);
  rig.addon.unlisten(rig.engine, rig.addon.listen(rig.engine, fd, 0));
  const id = rig.addon.connect(rig.engine, '127.0.0.1', closed);
  t.equal((await rig.next('connected', id)).a, ECONNREFUSED);
  t.equal(rig.read(id), -ECONNREFUSED);
  t.equal(rig.addon.close(rig.engine, id, false), 0);
  t.equal(rig.addon.connect(rig.engine, 'localhost', 80), -EINVAL);
  t.equal(rig.addon.connect(rig.engine, '::1'.padEnd(80, ' '), 80), -EINVAL);
  t.equal(rig.addon.bind('203.0.113.1', 0, false, 1), -constants.errno.EADDRNOTAVAIL);
  t.equal(rig.addon.portOf(0) < 0, true);
});

t.test('a writer hears once when there is room again', async (t) => {
  const rig = rigFor(t);
  const { client, id } = await joined(t, rig);
  const chunk = Buffer.alloc(1024 * 1024, 'a');
  let sent = 0;
  for (let n = 1; n > 0; sent += n) n = rig.addon.write(rig.engine, id, chunk);
  rig.addon.wantWrite(rig.engine, id);
  await settled(t, rig);
  t.same(kindsOf(rig, id), [], 'the client does not read');
  const heard = readAll(client);
  await rig.next('writable', id);
  t.ok(rig.addon.write(rig.engine, id, Buffer.from('end')) > 0);
  rig.addon.wantWrite(rig.engine, id);
  await rig.next('writable', id);
  rig.addon.close(rig.engine, id, false);
  t.equal((await heard).length, sent + 3);
});

t.test('close() says FIN, or cuts short when it is told to', async (t) => {
  const rig = rigFor(t);
  for (const isReset of [false, true]) {
    const { client, id } = await joined(t, rig);
    const told = wasReset(client);
    t.equal(rig.addon.close(rig.engine, id, isReset), 0);
    t.equal(await told, isReset);
    t.equal(rig.addon.close(rig.engine, id, isReset), -EBADF);
  }
});

t.test(
  'a released descriptor is the caller\u2019s, and can be adopted with what has come meanwhile',
  async (t) => {
    const rig = rigFor(t);
    const { client, id } = await joined(t, rig);
    const fd = rig.addon.release(rig.engine, id);
    t.ok(fd > 2);
    t.equal(rig.addon.write(rig.engine, id, Buffer.from('x')), -EBADF);
    await new Promise<void>((sent) => client.end('meanwhile', sent));
    await settled(t, rig);
    const again = rig.addon.adopt(rig.engine, fd);
    t.equal((await rig.next('hup', again)).a, 9);
    t.equal(rig.read(again), 'meanwhile');
    t.equal(rig.addon.adopt(rig.engine, 9999), -EBADF);
  },
);
