// What a connection promises until the relay has it, over every network there is: bounded reads, order, what is held, and each way it can end.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import type { Conn, Network, Wish } from '../../../proxy/conn/index.ts';
import { chooseDataPlane } from '../../../proxy/data-plane.ts';
import { bytesHeldBy, connPair, goneFrom, readConn, type ConnPair } from '../../helpers/conn.ts';
import { needs } from '../../helpers/needs.ts';
import { openSockets, readAll, wasReset } from '../../helpers/tcp.ts';

const planes = [chooseDataPlane('javascript'), chooseDataPlane('auto')];
t.teardown(() => {
  for (const { relay, network } of planes) {
    relay.close();
    network.close();
  }
});
for (const { network } of planes) {
  t.test(`${network.name} network: reading`, async (t) => await reading(t, network));
  t.test(`${network.name} network: writing`, async (t) => await writing(t, network));
  t.test(`${network.name} network: ends`, async (t) => await ends(t, network));
}

const minute = 60_000;
const upTo = (count: number): Wish<true>['look'] => {
  let seen = 0;
  return (piece) => ((seen += piece.length) >= count ? true : undefined);
};

async function reading(t: Test, network: Network): Promise<void> {
  t.test('over IPv6 too', { skip: needs(t, ['ipv6']) }, async (t) => {
    const { promise: accepted, resolve } = Promise.withResolvers<Conn>();
    const at = { address: '::1', port: 0 };
    const failed = (error: Error): void => void t.fail(error.message);
    const listener = await network.listen(at, { accepted: resolve, failed });
    const address = { family: 6, text: '::1', bytes: new Uint8Array(16).fill(1, 15) } as const;
    const connected = new Promise<Conn>((done, refused) => {
      network.connect(address, listener.port, { connected: done, failed: refused });
    });
    const [near, far] = await Promise.all([accepted, connected]);
    t.match([near.local.address, near.local.port, near.peer.address], ['::1', listener.port, '::1']);
    far.end('over six');
    t.equal(String(await readConn(near)), 'over six');
    for (const conn of [near, far]) conn.close();
    listener.close();
  });

  t.test('it knows both of its ends', async (t) => {
    const { near, far } = await connPair(t, network);
    t.same(near.peer, { address: '127.0.0.1', port: far.localPort });
    t.same(near.local, { address: '127.0.0.1', port: far.remotePort });
  });

  t.test(
    'each piece is looked at once, in order, and what was read is told whatever was found',
    async (t) => {
      const { near, far } = await connPair(t, network);
      const pieces: Buffer[] = [];
      const enough = upTo(9);
      const look = (piece: Buffer): true | undefined => {
        pieces.push(piece);
        if (pieces.length < 9) far.write(String(pieces.length));
        return enough(piece);
      };
      far.write('0');
      const { found, bytes } = await near.read({ look, timeoutMs: minute });
      t.same([found, String(bytes), String(Buffer.concat(pieces))], [true, '012345678', '012345678']);
    },
  );

  t.test('bytes that nobody asked for wait: sent before the first wish, or given back', async (t) => {
    const { near, far } = await connPair(t, network);
    far.end('early and late');
    await once(far, 'finish');
    const { bytes } = await near.read({ look: upTo(1), timeoutMs: minute });
    near.unread(bytes.subarray(6));
    near.unread(Buffer.from('EARLY '));
    t.equal(near.heldBytes, bytes.length);
    t.equal(String(await readConn(near)), 'EARLY and late');
  });

  t.test(
    'a peek leaves everything for the next reader, a byte at a time too, and what was held',
    async (t) => {
      const { near, far } = await connPair(t, network);
      near.unread(Buffer.from('held '));
      const seen: string[] = [];
      const look = (piece: Buffer): true | undefined => {
        seen.push(String(piece));
        if (seen.join('').length < 8) far.write('x');
        return seen.join('').length >= 8 ? true : undefined;
      };
      far.write('x');
      const peeked = await near.read({ look, timeoutMs: minute, isPeek: true });
      t.same([peeked.found, seen.join('')], [true, 'held xxx']);
      t.equal((await near.read({ look: () => true, timeoutMs: minute, isPeek: true })).found, true, 'again');
      far.end('!');
      t.equal(String(await readConn(near)), 'held xxx!');
    },
  );

  t.test('a peek that meets the FIN first says so, and the bytes are still there', async (t) => {
    const { near, far } = await connPair(t, network);
    far.end('short');
    const look = upTo(100);
    t.equal((await near.read({ look, timeoutMs: minute, isPeek: true })).found, 'gone');
    t.equal(String(await readConn(near)), 'short');
  });

  t.test('a wait ends by its time, by its signal, and by the end of another connection', async (t) => {
    const [{ near, far }, other] = [await connPair(t, network), await connPair(t, network)];
    const look = (): undefined => undefined;
    const stop = new AbortController();
    far.write('kept');
    t.equal((await near.read({ look, timeoutMs: 20 })).found, 'timeout');
    const stopped = near.read({ look, timeoutMs: minute, signal: stop.signal });
    stop.abort();
    t.equal((await stopped).found, 'stopped');
    t.equal((await near.read({ look, timeoutMs: minute, signal: stop.signal })).found, 'stopped', 'at once');
    const orphaned = near.read({ look, timeoutMs: minute, other: other.near });
    other.near.reset();
    t.equal((await orphaned).found, 'gone');
    t.equal(near.isGone, false, 'it is its holder who closes it');
  });

  t.test('first bytes are in order, however many came before it was accepted', async (t) => {
    const pattern = Buffer.from(Uint8Array.from({ length: 60_000 }, (_, i) => (i * 7) % 251));
    const { promise: read, resolve } = Promise.withResolvers<Buffer>();
    const accepted = async (conn: Conn): Promise<void> => {
      resolve(await readConn(conn));
      conn.close();
    };
    const listener = await network.listen(
      { address: '127.0.0.1', port: 0 },
      { accepted: (conn) => void accepted(conn), failed: (error) => t.fail(error.message) },
    );
    const script = `
      const { connect } = require('node:net');
      const bytes = Buffer.from(Uint8Array.from({ length: 60000 }, (_, i) => (i * 7) % 251));
      const socket = connect(${listener.port}, '127.0.0.1', () => socket.end(bytes, () => process.exit()));`;
    // Nobody accepts while this waits: the accept and all bytes are found at once.
    t.equal(spawnSync(process.execPath, ['-e', script], { stdio: 'inherit' }).status, 0);
    const heard = await read;
    listener.close();
    t.ok(heard.equals(pattern), `${heard.length} bytes`);
  });

  t.test('a client that sends without end is not read without end', async (t) => {
    const { near, far } = await connPair(t, network);
    far.write(Buffer.alloc(8 * 1024 * 1024));
    await near.read({ look: upTo(1), timeoutMs: minute });
    for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    t.ok(bytesHeldBy(near) <= 128 * 1024, `${bytesHeldBy(near)} bytes are held`);
  });
}

async function writing(t: Test, network: Network): Promise<void> {
  t.test('writes arrive in order, also those that the kernel does not take at once', async (t) => {
    const { near, far } = await connPair(t, network);
    const stuck = Buffer.alloc(8 * 1024 * 1024, 'a');
    near.write('first ');
    near.write(stuck);
    near.write(' middle');
    t.equal(near.canRelease, false);
    near.end(' last');
    t.equal(near.isEnded, true);
    const heard = await readAll(far);
    t.equal(String(heard.subarray(0, 6)), 'first ');
    t.equal(String(heard.subarray(6 + stuck.length)), ' middle last');
  });

  t.test('last words are read whole although the client goes on sending; then it is closed', async (t) => {
    const { near, far } = await connPair(t, network);
    const words = Buffer.alloc(200_000, 'w');
    far.write(Buffer.alloc(1_000_000));
    near.end(words);
    const lingering = near.linger(minute, new AbortController().signal);
    const heard = await readAll(far);
    t.same(heard, words);
    far.end();
    await lingering;
    t.equal(near.isGone, true);
  });

  t.test(
    'a client that never closes is lingered for no longer than told, and not after an abort',
    async (t) => {
      for (const [ms, abort] of [
        [20, false],
        [minute, true],
      ] as const) {
        const { near } = await connPair(t, network);
        const stop = new AbortController();
        near.end('no');
        const lingering = near.linger(ms, stop.signal);
        if (abort) stop.abort();
        await lingering;
        t.equal(near.isGone, true);
      }
    },
  );

  t.test('as a socket it goes on where it was, with what was not sent yet', async (t) => {
    const { near, far } = await connPair(t, network);
    const stuck = Buffer.alloc(8 * 1024 * 1024);
    near.write(stuck);
    const socket = near.toSocket();
    socket.end('end');
    far.end('question');
    t.equal(String(await readAll(socket)), 'question');
    t.equal((await readAll(far)).length, stuck.length + 3);
  });

  t.test('what is written to a connection that is gone goes nowhere and harms nobody', async (t) => {
    const { near } = await connPair(t, network);
    near.reset();
    near.write('x');
    near.end('y');
    near.reset();
    near.close();
    t.equal(near.isGone, true);
    t.equal((await near.read({ look: () => true, timeoutMs: minute })).found, 'gone');
    t.equal(near.toSocket().destroyed, true);
  });
}

async function ends(t: Test, network: Network): Promise<void> {
  const ways: Readonly<Record<string, (pair: ConnPair) => unknown>> = {
    'the peer resets': ({ far }) => far.resetAndDestroy(),
    'its holder resets': ({ near }) => near.reset(),
    'its holder closes': ({ near }) => near.close(),
  };
  for (const [way, end] of Object.entries(ways)) {
    t.test(`${way}: who waits is told, once, and so is who asks later`, async (t) => {
      const pair = await connPair(t, network);
      let told = 0;
      pair.near.onGone(() => {
        told += 1;
      });
      const forget = pair.near.onGone(() => t.fail('it was told not to'));
      forget();
      const wait = pair.near.read({ look: () => undefined, timeoutMs: minute });
      end(pair);
      t.equal((await wait).found, 'gone');
      await goneFrom(pair.near);
      t.equal(told, 1);
      t.equal(pair.near.isGone, true);
    });
  }

  t.test('a reset is heard while nobody reads', async (t) => {
    const { near, far } = await connPair(t, network);
    const gone = goneFrom(near);
    far.resetAndDestroy();
    // Node hears of it from a read only, and has one under way.
    await Promise.race([gone, near.read({ look: () => undefined, timeoutMs: minute })]);
    t.equal(near.isGone, true);
  });

  t.test('a FIN with nothing before it is told; one behind bytes is not, for they may matter', async (t) => {
    const silent = await connPair(t, network);
    const finished = new Promise<void>((resolve) => void silent.near.onFinished(resolve));
    silent.far.end();
    if (network.name === 'node') void silent.near.toSocket().read(0);
    await finished;
    const spoken = await connPair(t, network);
    spoken.near.unread(Buffer.from('held'));
    spoken.near.onFinished(() => t.fail('there is something left to read'));
    spoken.far.end();
    await once(spoken.far, 'finish');
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  });

  t.test('reset is a RST, close after last words is none', async (t) => {
    const cut = await connPair(t, network);
    cut.near.reset();
    t.equal(await wasReset(cut.far), true);
    const closed = await connPair(t, network);
    closed.near.end('');
    t.equal(await wasReset(closed.far), false);
  });

  t.test('connecting: an open port, a closed one, and an attempt that is given up', async (t) => {
    const listener = await network.listen(
      { address: '127.0.0.1', port: 0 },
      { accepted: (conn) => conn.end('hi'), failed: (error) => t.fail(error.message) },
    );
    const address = { family: 4, text: '127.0.0.1', bytes: Uint8Array.of(127, 0, 0, 1) } as const;
    const attempt = async (): Promise<string> =>
      await new Promise((resolve) => {
        const connected = async (conn: ConnPair['near']): Promise<void> => {
          resolve(String(await readConn(conn)));
          conn.close();
        };
        network.connect(address, listener.port, {
          connected: (conn) => void connected(conn),
          failed: resolve,
        });
      });
    t.equal(await attempt(), 'hi');
    const before = openSockets();
    const giveUp = network.connect(address, listener.port, {
      connected: () => t.fail('it was given up'),
      failed: () => t.fail('it was given up'),
    });
    giveUp();
    listener.close();
    t.equal(await attempt(), 'ECONNREFUSED');
    t.ok(openSockets() <= before);
  });

  t.test('a port that is taken is an error with its code', async (t) => {
    const on = { accepted() {}, failed() {} };
    const listener = await network.listen({ address: '127.0.0.1', port: 0 }, on);
    await t.rejects(network.listen({ address: '127.0.0.1', port: listener.port }, on), {
      code: 'EADDRINUSE',
      syscall: 'listen',
    });
    listener.close();
  });

  t.test('a thousand connections that end in every way leave no descriptor', async (t) => {
    const before = openSockets();
    for (let i = 0; i < 250; i += 1) {
      for (const end of Object.values(ways)) {
        const pair = await connPair(t, network);
        end(pair);
        pair.far.destroy();
        pair.near.close();
        if (!pair.far.closed) await once(pair.far, 'close');
      }
    }
    while (openSockets() > before) await new Promise((resolve) => setImmediate(resolve));
    t.equal(openSockets(), before);
  });
}
