// The three gates on a live proxy: the name before any look-up, every address, the server name before one byte goes upstream.

import t, { type Test } from 'tap';
import type { Conn } from '../../proxy/conn/index.ts';
import { ProxyError } from '../../proxy/errors.ts';
import { createTunnelTable } from '../../proxy/tunnel-table.ts';
import type { Tunnel } from '../../proxy/tunnel.ts';
import { bytesHeldBy } from '../helpers/conn.ts';
import { buildAnswer, buildHandshake, buildHello, record, type HelloShape } from '../helpers/hello.ts';
import { startEcho, startOrigin } from '../helpers/origin.ts';
import { closed, dialProxy, connectHead, readBytes, readReply } from '../helpers/proxy-client.ts';
import { allowing, publicAddress, startTestProxy, type TestProxyOptions } from '../helpers/proxy.ts';

const policy = {
  ...allowing('a.test', 'b.test'),
  deny: [{ host: 'no.a.test', reason: 'test' }],
};

/** What the proxy says to each authority, one after the other. */
async function verdicts(
  t: Test,
  authorities: readonly string[],
  options: Partial<TestProxyOptions> = {},
): Promise<{ said: string[]; asked: readonly string[]; dialled: number; decided: string[] }> {
  const proxy = await startTestProxy(t, { policy, ...options });
  const said: string[] = [];
  for (const authority of authorities) {
    const { status, headers, body } = await proxy.connect(authority);
    t.equal(body['reason'], headers.get('sallyport-reason'), 'header and body say the same');
    said.push(`${authority} ${status} ${headers.get('sallyport-reason')}`);
  }
  await proxy.closed(authorities.length);
  const decided = proxy.decisions.map(({ verdict, reason }) => `${verdict} ${reason}`);
  return { said, asked: proxy.asked, dialled: proxy.dialled.length, decided };
}

t.test('a denied name is never looked up, whatever the reason', async (t) => {
  const { said, asked, dialled, decided } = await verdicts(t, [
    'evil.test:443',
    'xa.test:443',
    'a.test.evil.test:443',
    'sub.a.test:443',
    'no.a.test:443',
    'a.test:22',
    'a.test:25',
    'a.test:8443',
  ]);
  t.same(said, [
    'evil.test:443 403 no_rule_matched',
    'xa.test:443 403 no_rule_matched',
    'a.test.evil.test:443 403 no_rule_matched',
    'sub.a.test:443 403 no_rule_matched',
    'no.a.test:443 403 rule_denied',
    'a.test:22 403 port_not_allowed',
    'a.test:25 403 port_not_allowed',
    'a.test:8443 403 port_not_allowed',
  ]);
  t.same([asked, dialled], [[], 0], 'no look-up, no dial');
  t.same(decided.length, said.length, 'one decision event per verdict');
});

t.test('an IP address in any of its spellings is an address, never a name (failures 8, 51)', async (t) => {
  const { said, asked } = await verdicts(t, [
    '1.2.3.4:443',
    '16909060:443',
    '01.02.03.04:443',
    '0x1.0x2.0x3.0x4:443',
    '[2001:db8::1]:443',
    '[::ffff:1.2.3.4]:443',
    '127.1:443',
    '0xa9fea9fe:443',
  ]);
  t.same(
    said.map((line) => line.split(' ').slice(1).join(' ')),
    said.map(() => '403 host_is_address'),
  );
  t.same(asked, []);
});

t.test(
  'a server name on the list does not open the way to an address of the client: it is not dialled (failure 16)',
  async (t) => {
    const origin = await startOrigin(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port });
    const after = buildHello({ serverName: 'a.test' });
    for (const authority of [`${publicAddress}:443`, '1.2.3.4:443', '[2606:4700::1111]:443']) {
      const { status, body } = await proxy.connect(authority, { after });
      t.match([status, body], [403, { reason: 'host_is_address' }], authority);
    }
    await proxy.closed(3);
    t.same([proxy.asked, proxy.dialled, origin.sockets], [[], [], []]);
  },
);

t.test(
  'brackets, zone ids, userinfo, bad ports and odd bytes in the authority are 400 (failures 1, 5, 6, 9, 10)',
  async (t) => {
    const { said, asked } = await verdicts(t, [
      '[a.test]:443',
      '[[::1]]:443',
      '[::1]x:443',
      '[::1%25eth0]:443',
      'a.test@evil.test:443',
      'a.test:0',
      'a.test:65536',
      'a.test:+443',
      'a.test:0443',
      'a.test',
      'a.test:443:443',
      'a%2etest:443',
      'a.test\\:443',
      'a.test#:443',
      'a..test:443',
      'a.test..:443',
      `${'x'.repeat(64)}.test:443`,
      'https://a.test:443',
    ]);
    t.same(
      said.filter((line) => !line.endsWith(' 400 request_malformed')),
      [],
    );
    t.same(asked, []);
  },
);

t.test('the name is read in any case and with one trailing dot, as the same name (failure 4)', async (t) => {
  const origin = await startOrigin(t);
  const proxy = await startTestProxy(t, { policy, origin: origin.port });
  for (const authority of ['A.TEST:443', 'a.test.:443', 'A.tEsT.:443']) {
    const { status, socket } = await proxy.connect(authority);
    t.equal(status, 200, authority);
    socket.destroy();
  }
  t.same(proxy.asked, ['a.test', 'a.test', 'a.test']);
});

t.test(
  'a name that resolves to a private, loopback or metadata address is refused, and not dialled (failures 33, 36)',
  async (t) => {
    const bad = [
      '169.254.169.254',
      '127.0.0.1',
      '10.0.0.1',
      '::1',
      'fd00:ec2::254',
      '0.0.0.0',
      '100.64.0.1',
      '64:ff9b::a00:1',
    ];
    for (const one of bad) {
      const { said, dialled } = await verdicts(t, ['a.test:443'], { answers: () => [publicAddress, one] });
      t.same([said, dialled], [['a.test:443 403 address_not_public'], 0], `${one} beside a good answer`);
    }
  },
);

t.test("the proxy's own addresses are refused, public or not (failure 34, feature 89)", async (t) => {
  const { said, dialled } = await verdicts(t, ['a.test:443'], { ownAddresses: [publicAddress] });
  t.same([said, dialled], [['a.test:443 403 address_not_public'], 0]);
});

t.test(
  'a resolver that flips its answer is asked once, and what was judged is what is dialled (failure 29)',
  async (t) => {
    const origin = await startOrigin(t);
    const answers = [publicAddress, '127.0.0.1', publicAddress];
    const proxy = await startTestProxy(t, {
      policy,
      origin: origin.port,
      answers: () => [answers.shift() ?? ''],
    });
    const first = await proxy.connect('a.test:443');
    t.same([first.status, proxy.asked.length, answers.length], [200, 1, 2], 'one query for one tunnel');
    t.same(
      proxy.dialled.flatMap((grant) => grant.addresses.map(({ text }) => text)),
      [publicAddress],
    );
    t.equal((await proxy.connect('a.test:443')).headers.get('sallyport-reason'), 'address_not_public');
    t.equal(proxy.dialled.length, 1, 'the second answer is judged too, and goes nowhere');
    first.socket.destroy();
  },
);

t.test('a DNS failure is a denial with a code of its own, never a way through (failure 30)', async (t) => {
  for (const [code, status] of [
    ['dns_failed', 502],
    ['dns_timeout', 504],
  ] as const) {
    const answers = (): never => {
      throw new ProxyError(code, 'resolve', 'no address');
    };
    const proxy = await startTestProxy(t, { policy, answers });
    const reply = await proxy.connect('a.test:443');
    t.match([reply.status, reply.body], [status, { reason: code, retry: 'transient' }]);
    t.match(await proxy.closed(1), { cause: 'failed', reason: code, verdict: null });
    t.same([proxy.dialled, proxy.decisions], [[], []], 'no verdict was given');
  }
});

t.test('an origin that cannot be reached is 502 and no denial; the verdict stays on record', async (t) => {
  const proxy = await startTestProxy(t, { policy, origin: 0 });
  t.match(await proxy.connect('a.test:443'), {
    status: 502,
    body: { reason: 'dial_refused', retry: 'transient' },
  });
  t.match(await proxy.closed(1), { cause: 'failed', reason: 'dial_refused', verdict: 'allow' });
  t.match(proxy.decisions, [{ verdict: 'allow', reason: 'rule_matched' }]);
});

/** Opens a.test:443, sends `bytes`, waits for the end: what was recorded, and what upstream saw. */
async function afterAccept(
  t: Test,
  bytes: Buffer,
  options: Partial<TestProxyOptions> = {},
): Promise<readonly unknown[]> {
  const origin = await startOrigin(t);
  const proxy = await startTestProxy(t, { policy, origin: origin.port, ...options });
  const { status, socket } = await proxy.connect('a.test:443');
  t.equal(status, 200);
  socket.write(bytes);
  await closed(socket);
  const { cause, reason, up, down, verdict } = await proxy.closed(1);
  t.same(
    proxy.decisions.map((event) => event.verdict),
    ['allow', 'deny'],
    'the denial is a second decision event',
  );
  t.same(
    [cause, up, down, verdict, origin.received().length],
    ['refused', 0, 0, 'deny', 0],
    'upstream saw zero bytes',
  );
  return [reason, proxy.decisions[1]?.reason];
}

t.test(
  'CONNECT to one listed host with another server name is cut before a byte goes upstream (failure 15, fronting)',
  async (t) => {
    const hellos: Record<string, HelloShape> = {
      'b.test, listed too': { serverName: 'b.test' },
      'evil.test, unlisted': { serverName: 'evil.test' },
      'TLS 1.2': { serverName: 'b.test', tls12: true },
      'a name below': { serverName: 'x.a.test' },
      'an address': { serverName: publicAddress },
      'a NUL inside': { serverName: 'a.test\0.evil.test' },
      'split over records': { serverName: 'b.test', recordSize: 7 },
    };
    for (const [title, shape] of Object.entries(hellos)) {
      await t.test(title, async (t) => {
        const [reason] = await afterAccept(t, buildHello(shape));
        t.ok(['server_name_mismatch', 'hello_malformed'].includes(String(reason)), String(reason));
      });
    }
    t.same(await afterAccept(t, buildHello({ serverName: 'b.test' })), [
      'server_name_mismatch',
      'server_name_mismatch',
    ]);
  },
);

t.test(
  'fronting by HelloRetryRequest: another name in the second hello never goes upstream (failure 15)',
  async (t) => {
    const first = buildHello({ serverName: 'a.test' });
    for (const [second, reason] of [
      [buildHello({ serverName: 'b.test' }), 'server_name_mismatch'],
      [buildHello({ serverName: 'a.test', ech: true }), 'ech_refused'],
      [Buffer.from('SSH-2.0-x\r\n'), 'not_tls'],
    ] as const) {
      const origin = await startOrigin(t, (socket) =>
        socket.once('data', () => socket.write(buildAnswer('retry'))),
      );
      const proxy = await startTestProxy(t, { policy, origin: origin.port });
      const { socket } = await proxy.connect('a.test:443', { after: first });
      t.same(await readBytes(socket, 43), buildAnswer('retry'));
      socket.write(second);
      await closed(socket);
      t.match(await proxy.closed(1), { cause: 'refused', reason, verdict: 'deny' });
      t.same(origin.received(), first, 'upstream saw the first hello and nothing more');
    }
  },
);

t.test(
  'the start of a second hello that is sent along with the first waits for the verdict on all of it (failure 15)',
  async (t) => {
    const first = buildHello({ serverName: 'a.test' });
    // What the server would read as one hello for b.test: its tail, alone, is a whole hello for a.test.
    const decoy = buildHandshake({ serverName: 'a.test' });
    const second = buildHandshake({ serverName: 'b.test', extensions: [{ type: 21, data: decoy }] });
    const cut = second.indexOf(decoy);
    const origin = await startOrigin(t, (socket) =>
      socket.once('data', () => socket.write(buildAnswer('retry'))),
    );
    const proxy = await startTestProxy(t, { policy, origin: origin.port });
    const early = Buffer.concat([first, record(Buffer.of(1), 20), record(second.subarray(0, cut))]);
    const { socket } = await proxy.connect('a.test:443', { after: early });
    t.same(await readBytes(socket, 43), buildAnswer('retry'));
    socket.write(record(second.subarray(cut)));
    await closed(socket);
    t.match(await proxy.closed(1), {
      reason: 'server_name_mismatch',
      verdict: 'deny',
      up: first.length,
      down: 43,
    });
    t.same(origin.received(), first, 'nothing but the first hello went upstream');
  },
);

t.test(
  'bytes that crossed before the relay are in the close event of a client that leaves there',
  async (t) => {
    const hello = buildHello({ serverName: 'a.test' });
    const origin = await startOrigin(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port });
    const { socket } = await proxy.connect('a.test:443', {
      after: Buffer.concat([hello, Buffer.alloc(500)]),
    });
    const upstream = await origin.connection(0);
    while (origin.received().length < hello.length) await new Promise((turn) => upstream.once('data', turn));
    socket.resetAndDestroy();
    t.match(await proxy.closed(1), { cause: 'client_gone', up: hello.length });
    t.equal(origin.received().length, hello.length);
  },
);

t.test('a second hello for the same host goes on, and both are counted', async (t) => {
  const hello = buildHello({ serverName: 'a.test' });
  const answers = [buildAnswer('retry'), buildAnswer('hello')];
  const origin = await startOrigin(t, (socket) =>
    socket.on('data', () => socket.write(answers.shift() ?? '')),
  );
  const proxy = await startTestProxy(t, { policy, origin: origin.port });
  const { socket } = await proxy.connect('a.test:443', { after: hello });
  await readBytes(socket, 43);
  socket.write(hello);
  t.same(await readBytes(socket, 43), buildAnswer('hello'));
  socket.resetAndDestroy();
  t.match(await proxy.closed(1), { up: 2 * hello.length, down: 86 });
});

t.test(
  'a hello without a server name, with two, or encrypted, is cut before a byte goes upstream (failures 15, 26)',
  async (t) => {
    const cases: [HelloShape, string][] = [
      [{}, 'server_name_missing'],
      [{ serverNames: ['a.test', 'evil.test'] }, 'hello_malformed'],
      [{ serverName: 'a.test', secondServerName: 'evil.test' }, 'hello_malformed'],
      [{ serverName: 'a.test', ech: true }, 'ech_refused'],
    ];
    for (const [shape, expected] of cases)
      t.same(await afterAccept(t, buildHello(shape)), [expected, expected]);
  },
);

t.test(
  'another protocol in the tunnel is cut: SSH, HTTP, a nested CONNECT, noise (failure 27)',
  async (t) => {
    const openings = [
      'SSH-2.0-OpenSSH_9.2\r\n',
      'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n',
      connectHead('a.test:443'),
      '\0\0\0\0\0\0\0\0',
    ];
    for (const opening of openings)
      t.same(await afterAccept(t, Buffer.from(opening)), ['not_tls', 'not_tls'], JSON.stringify(opening));
  },
);

t.test(
  'a client that says nothing after 200 is cut at the time limit, one that says half a hello too (failure 67)',
  async (t) => {
    const settings = { helloTimeoutMs: 50 };
    t.same(await afterAccept(t, Buffer.alloc(0), { settings }), ['hello_timeout', 'hello_timeout']);
    const half = buildHello({ serverName: 'a.test' }).subarray(0, 40);
    t.same(await afterAccept(t, half, { settings }), ['hello_timeout', 'hello_timeout']);
    const endless = buildHello({ serverName: 'a.test', padTo: 5000 });
    t.same(await afterAccept(t, endless, { settings: { helloBytes: 1024 } }), [
      'hello_malformed',
      'hello_malformed',
    ]);
  },
);

t.test(
  'a right hello passes however it is cut up, with a post-quantum key share, and in upper case (failure 25)',
  async (t) => {
    const origin = await startEcho(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port });
    for (const hello of [
      buildHello({ serverName: 'A.Test', postQuantum: true, grease: true, nameLast: true, recordSize: 100 }),
      buildHello({ serverName: 'a.test', tls12: true }),
    ]) {
      const { socket } = await proxy.connect('a.test:443');
      for (const byte of hello) socket.write(Uint8Array.of(byte));
      t.same(await readBytes(socket, hello.length), hello);
      socket.destroy();
    }
  },
);

t.test(
  '1 MB sent along with the CONNECT head is not read without bound, and reaches nobody before the verdict (failure 28)',
  async (t) => {
    const origin = await startOrigin(t, (socket) =>
      socket.once('data', () => socket.write(buildAnswer('hello'))),
    );
    const { promise: answer, resolve } = Promise.withResolvers<readonly string[]>();
    const clients: Conn[] = [];
    const table = createTunnelTable();
    const deps = {
      table: {
        ...table,
        enter: (tunnel: Tunnel) =>
          void clients.push(...[tunnel.client].filter((client) => client !== undefined)),
      },
    };
    const proxy = await startTestProxy(t, {
      policy,
      origin: origin.port,
      deps,
      answers: async () => await answer,
    });
    const socket = await dialProxy(proxy.port);
    const hello = buildHello({ serverName: 'a.test' });
    socket.write(
      Buffer.concat([
        Buffer.from(connectHead('a.test:443')),
        hello,
        Buffer.alloc(1_048_576 - hello.length, 9),
      ]),
    );
    while (proxy.asked.length === 0) await new Promise((turn) => setImmediate(turn));
    // Until now everything that could be read has been: the kernel's buffers hold the rest, not ours.
    for (let turns = 0; turns < 200; turns += 1) await new Promise((turn) => setImmediate(turn));
    const held = clients.map(bytesHeldBy)[0] ?? 0;
    t.ok(held > 0 && held <= 4 * 65_536, `${held} bytes are held`);
    t.equal(origin.sockets.length, 0);
    resolve([publicAddress]);
    t.equal((await readReply(socket)).status, 200);
    const upstream = await origin.connection(0);
    while (origin.received().length < 1_048_576) await new Promise((turn) => upstream.once('data', turn));
    t.same(origin.received().subarray(0, hello.length), hello, 'nothing is lost or turned around');
    socket.destroy();
  },
);

t.test('an early hello for another host is cut like a late one: nothing upstream (failure 28)', async (t) => {
  const origin = await startOrigin(t);
  const proxy = await startTestProxy(t, { policy, origin: origin.port });
  const { status, socket } = await proxy.connect('a.test:443', {
    after: buildHello({ serverName: 'b.test' }),
  });
  t.equal(status, 200);
  await closed(socket);
  t.match(await proxy.closed(1), { reason: 'server_name_mismatch', up: 0 });
  t.equal(origin.received().length, 0);
});

t.test(
  'the decision is on record before the first packet; when it cannot be, nobody is dialled',
  async (t) => {
    const origin = await startOrigin(t);
    const broken = await startTestProxy(t, {
      policy,
      origin: origin.port,
      onDecided: () => {
        throw new Error('disk full');
      },
    });
    t.match(await broken.connect('a.test:443'), { status: 503, body: { reason: 'audit_unavailable' } });
    t.match(await broken.connect('evil.test:443'), { status: 503, body: { reason: 'audit_unavailable' } });
    t.same([broken.dialled.length, origin.sockets.length], [0, 0]);
    t.match(await broken.closed(1), { cause: 'failed', reason: 'audit_unavailable', verdict: null });
  },
);

t.test('a denial after 200 that cannot be put on record still cuts the tunnel', async (t) => {
  const origin = await startOrigin(t);
  const onDecided = ({ verdict }: { verdict: string }): void => {
    if (verdict === 'deny') throw new Error('disk full');
  };
  const proxy = await startTestProxy(t, { policy, origin: origin.port, onDecided });
  const { socket } = await proxy.connect('a.test:443');
  socket.write(buildHello({ serverName: 'b.test' }));
  await closed(socket);
  t.match(await proxy.closed(1), { cause: 'failed', reason: 'audit_unavailable', up: 0 });
  t.equal(origin.received().length, 0);
});
