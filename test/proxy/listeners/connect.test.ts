// The CONNECT door on a live proxy: what it answers, whom it believes, and what a hostile client gets out of it.
import t from 'tap';
import { buildHello } from '../../helpers/hello.ts';
import { startEcho, startOrigin } from '../../helpers/origin.ts';
import { connectHead, dialProxy, readBytes, readReply } from '../../helpers/proxy-client.ts';
import { allowing, startTestProxy } from '../../helpers/proxy.ts';

const policy = allowing('api.a.test');

t.test(
  'a refusal says in header and body why, by which policy, what to do, and not to get around it',
  async (t) => {
    const proxy = await startTestProxy(t, { policy });
    const { status, head, headers, body } = await proxy.connect('apl.a.test:443');
    t.equal(status, 403);
    t.match(head, /^HTTP\/1\.1 403 Forbidden\r\n/u);
    t.equal(headers.get('connection'), 'close');
    t.match(body, {
      reason: 'no_rule_matched',
      sentence: /denied/u,
      host: 'apl.a.test',
      port: 443,
      hint: /./u,
      didYouMean: 'api.a.test',
      howToRequest: /./u,
      retry: 'none',
      policy: proxy.deps.policyStore.current.digest,
      run: 'test-run',
      note: 'This is a policy decision; do not try to get around it.',
    });
  },
);

t.test('with hints off a refusal gives away no other name and no advice', async (t) => {
  const proxy = await startTestProxy(t, { policy, settings: { hints: false } });
  const { body } = await proxy.connect('apl.a.test:443');
  t.same(Object.keys(body).toSorted(), [
    'host',
    'note',
    'policy',
    'port',
    'reason',
    'retry',
    'run',
    'sentence',
  ]);
});

t.test(
  'URLs that are not served, oversized and unfinished heads get their own status, a reason and a decision event',
  async (t) => {
    const proxy = await startTestProxy(t, { policy, settings: { headBytes: 1024, headTimeoutMs: 100 } });
    const cases: [string, number][] = [
      ['GET https://api.a.test/ HTTP/1.1\r\nHost: api.a.test\r\n\r\n', 400],
      ['GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n', 400],
      ['POST /reload HTTP/1.1\r\nHost: x\r\n\r\n', 400],
      [connectHead('api.a.test:443', [`Pad: ${'x'.repeat(65_536)}`]), 431],
      ['CONNECT api.a.test:443 HTTP/1.1\r\nHost:', 408],
      ['CONNECT api.a.test:443 HTTP/1.1\nHost: api.a.test:443\n\n', 400],
      ['\u0016\u0003\u0001', 400],
    ];
    for (const [bytes, expected] of cases) {
      const { status, body } = await proxy.send(Buffer.from(bytes, 'latin1'));
      t.match([status, body], [expected, { reason: 'request_malformed', retry: 'none' }], bytes.slice(0, 30));
    }
    await proxy.closed(cases.length);
    t.equal(proxy.decisions.length, cases.length);
    t.same([...new Set(proxy.decisions.map(({ reason }) => reason))], ['request_malformed']);
    t.same([proxy.asked, proxy.bugs], [[], []]);
  },
);

t.test('a malformed request is told what to send instead, its ACE spelling for one', async (t) => {
  const proxy = await startTestProxy(t, { policy });
  const told = async (authority: string) => {
    const { status, body } = await proxy.send(Buffer.from(connectHead(authority)));
    t.match([status, body], [400, { reason: 'request_malformed', detail: /./u }], authority);
    return [body['hint'], body['didYouMean']];
  };
  t.same(await told('bücher.a.test:443'), ['write the ACE form `xn--bcher-kva.a.test`', undefined]);
  t.same(await told('https://api.a.test/x'), ['leave out the scheme and the path', 'api.a.test:443']);
  t.match(await told('api:443'), [/full name/u, 'api.a.test:443']);
  const bytes = Buffer.from(connectHead('b\xfccher.a.test:443'), 'latin1');
  t.match((await proxy.send(bytes)).body['hint'], /ACE form/u, 'not even UTF-8');
  t.same([proxy.asked, proxy.bugs], [[], []]);
});

t.test(
  'a password or a token in the request line is in no answer and no record, however it is spelt',
  async (t) => {
    const proxy = await startTestProxy(t, { policy });
    const shown: Readonly<Record<string, string>> = {
      'user:SECRET@api.a.test': 'api.a.test',
      'user:SECRET@api.a.test:443': 'api.a.test:443',
      'SECRET@api.a.test:443': 'api.a.test:443',
      'user:SECRET': 'user:',
      'user:SECRET:443': 'user:',
      'user:SECRET@': '',
      'user:SECRET/SECRET@api.a.test:443': '',
      'user:a@SECRET@api.a.test:443': 'api.a.test:443',
      'user%3ASECRET%40api.a.test:443': 'user',
      'https://u:SECRET@api.a.test': 'api.a.test',
      'https://u:SECRET@api.a.test:443/SECRET?token=SECRET#SECRET': 'api.a.test:443',
      'https://api.a.test/p?token=SECRET': 'api.a.test',
      'https://api.a.test/SECRET@SECRET': '',
      'HTTPS://api.a.test:443/?mail=SECRET@a.test': '',
      '//api.a.test/SECRET': '',
      'api.a.test:443/?token=SECRET': 'api.a.test:443',
      'api.a.test:443?SECRET': 'api.a.test:443',
      'api.a.test:443#SECRET': 'api.a.test:443',
      'api.a.test/SECRET:443': 'api.a.test',
      'api.a.test?token=SECRET:443': 'api.a.test',
      'api.a.test:443;token=SECRET': 'api.a.test:443',
      'api.a.test:443%2FSECRET': 'api.a.test:443',
      'api.a.test\\SECRET:443': 'api.a.test',
      'api.a.test:SECRET': 'api.a.test:',
      'api.a.test:-443': 'api.a.test:-443',
      '[::1]:SECRET': '[::1]:',
      '[::1]SECRET:443': '[::1]:',
      '2001:db8::1:443': '2001:db8::1:443',
      [`https://api.a.test/${'p'.repeat(400)}?token=SECRET`]: 'api.a.test',
    };
    const found: Record<string, string> = {};
    const told: string[] = [];
    for (const authority of Object.keys(shown)) {
      const { status, head, body } = await proxy.connect(authority, { lines: ['Host: api.a.test:443'] });
      t.match([status, body['reason']], [400, 'request_malformed'], authority);
      found[authority] = String(body['host']);
      told.push(`${head}${JSON.stringify(body)}`);
    }
    const get = await proxy.send('GET https://u:SECRET@api.a.test/SECRET?SECRET HTTP/1.1\r\n\r\n');
    await proxy.closed(told.length + 1);
    t.same(found, shown, 'what is left says which host was meant');
    const all = [
      ...told,
      `${get.head}${JSON.stringify(get.body)}`,
      proxy.decisions,
      proxy.closes,
      proxy.bugs,
    ];
    t.notMatch(JSON.stringify(all), /SECRET/iu);
  },
);

t.test('metrics and admin paths do not exist on the proxy port (failure 61)', async (t) => {
  const proxy = await startTestProxy(t, { policy });
  for (const path of ['/metrics', '/healthz', '/tunnels', '/policy']) {
    const { status, head } = await proxy.send(`GET ${path} HTTP/1.1\r\nHost: proxy\r\n\r\n`);
    t.equal(status, 400);
    t.notMatch(head, /sallyport_/u);
  }
});

t.test('control headers of a client are neither believed nor sent back (failures 62, 72)', async (t) => {
  const proxy = await startTestProxy(t, { policy });
  const control = [
    'Sallyport-Reason: rule_matched',
    'X-Sallyport-Principal: admin',
    'Sallyport-Run: other-run',
    'Proxy-Authorization: Basic YWRtaW46cGFzcw==',
    'X-Smokescreen-Role: admin',
    'X-Forwarded-For: 10.0.0.1',
    'Forwarded: for=10.0.0.1',
    'X-Request-Id: injected-id',
    'Connection: Sallyport-Reason',
  ];
  const plain = await proxy.connect('evil.test:443');
  for (const line of control) {
    const { head, body } = await proxy.connect('evil.test:443', { lines: [line] });
    t.same([head, body], [plain.head, plain.body], `${line}: the answer is byte for byte the one without it`);
  }
  await proxy.closed(control.length + 1);
  t.same(
    [...new Set(proxy.decisions.map(({ principal, run }) => `${principal} ${run}`))],
    ['local test-run'],
  );
  t.notMatch(JSON.stringify([proxy.decisions, proxy.closes]), /injected|admin|YWRtaW4|other-run/u);
});

t.test('no token, a wrong one and a right-looking one are all the same to us (failure 72)', async (t) => {
  const principals = [{ name: 'known', source: '127.0.0.2/32', listen: null }];
  const proxy = await startTestProxy(t, { policy, settings: { principals } });
  for (const lines of [
    [],
    ['Proxy-Authorization: Basic a25vd246eA=='],
    ['Proxy-Authorization: Bearer known'],
  ]) {
    t.match(await proxy.connect('api.a.test:443', { lines }), {
      status: 403,
      body: { reason: 'principal_unknown' },
    });
  }
  t.equal(
    (await proxy.connect('api.a.test:443', { from: '127.0.0.2' })).status,
    502,
    'who comes from the declared address is known',
  );
});

t.test('line breaks, escapes and huge names cannot forge a record or an answer (failure 66)', async (t) => {
  const proxy = await startTestProxy(t, { policy });
  const hostile = [
    'a\u001b[31m.test:443',
    'a\u202etest:443',
    `${'a'.repeat(5000)}:443`,
    'a.test:443"},{"verdict":"allow',
  ];
  for (const authority of hostile) {
    const { status, body } = await proxy.connect(authority);
    t.equal(status, 400);
    t.match(String(body['host']), /^[\u0020-\u007e]{0,80}$/u, 'only printable ASCII, and not much of it');
  }
  await proxy.send('CONNECT a.test:443\r\nSallyport-Reason: rule_matched HTTP/1.1\r\n\r\n');
  await proxy.closed(hostile.length + 1);
  for (const event of [...proxy.decisions, ...proxy.closes]) {
    t.match(`${event.host}${'detail' in event ? (event.detail ?? '') : ''}`, /^[\u0020-\u007e]{0,400}$/u);
  }
});

t.test(
  'clients that trickle their head are cut at the limit, and others are served meanwhile (failure 67, feature 86)',
  async (t) => {
    const origin = await startEcho(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings: { headTimeoutMs: 300 } });
    const slow = await Promise.all(Array.from({ length: 50 }, async () => await dialProxy(proxy.port)));
    const drips = slow.map((socket) => setInterval(() => socket.write('C'), 20));
    t.teardown(() => drips.forEach(clearInterval));
    const { status, socket } = await proxy.connect('api.a.test:443');
    t.equal(status, 200);
    socket.destroy();
    const replies = await Promise.all(slow.map(readReply));
    t.same([...new Set(replies.map((reply) => reply.status))], [408]);
  },
);

t.test(
  'one principal that fills its share of half-sent heads starves itself only (failure 67)',
  async (t) => {
    const principals = [
      { name: 'greedy', source: '127.0.0.2/32', listen: null },
      { name: 'modest', source: '127.0.0.3/32', listen: null },
    ];
    const proxy = await startTestProxy(t, { policy, settings: { principals, maxTunnelsPerPrincipal: 5 } });
    const held = await Promise.all(
      Array.from({ length: 5 }, async () => await dialProxy(proxy.port, '127.0.0.2')),
    );
    while (proxy.deps.waiting.open < 5) await new Promise((turn) => setImmediate(turn));
    const refused = await dialProxy(proxy.port, '127.0.0.2');
    t.match(await readReply(refused), { status: 429, body: { reason: 'limit_tunnels', retry: 'transient' } });
    t.equal(
      (await proxy.connect('api.a.test:443', { from: '127.0.0.3' })).status,
      502,
      'another principal is served',
    );
    for (const socket of held) socket.destroy();
  },
);

t.test(
  'tunnels and connection rate are limited per principal, with 429 and a time to come back',
  async (t) => {
    const origin = await startOrigin(t);
    const many = await startTestProxy(t, {
      policy,
      origin: origin.port,
      settings: { maxTunnelsPerPrincipal: 1 },
    });
    const first = await many.connect('api.a.test:443');
    t.equal(first.status, 200);
    const second = await many.connect('api.a.test:443');
    t.match([second.status, second.body], [429, { reason: 'limit_tunnels', retry: 'transient' }]);
    t.match(second.headers.get('retry-after'), /^\d+$/u);
    t.equal(many.asked.length, 1, 'who is over the limit asks no resolver');
    first.socket.destroy();
    while (many.deps.limits.open > 0) await many.closed(many.closes.length + 1);
    const third = await many.connect('api.a.test:443');
    t.equal(third.status, 200, 'a place that was given back is free');
    third.socket.destroy();

    const fast = await startTestProxy(t, {
      policy,
      settings: { connectionBurst: 2, connectionsPerSecond: 0.001 },
    });
    const statuses: number[] = [];
    for (let i = 0; i < 3; i += 1) statuses.push((await fast.connect('evil.test:443')).status);
    t.same(statuses, [403, 403, 429]);
  },
);

t.test('every client has exactly one close event, also one that never sent a byte', async (t) => {
  const proxy = await startTestProxy(t, { policy });
  const silent = await dialProxy(proxy.port);
  silent.end();
  const reset = await dialProxy(proxy.port);
  reset.resetAndDestroy();
  await proxy.closed(2);
  const half = await dialProxy(proxy.port);
  half.end('CONNECT api.a.test:443 HT');
  await proxy.closed(3);
  await proxy.connect('evil.test:443');
  await proxy.closed(4);
  t.same(
    proxy.closes.map(({ cause, reason, verdict }) => [cause, reason, verdict]),
    [...Array.from({ length: 3 }, () => ['client_gone', null, null]), ['refused', 'no_rule_matched', 'deny']],
  );
  t.equal(new Set(proxy.closes.map(({ tunnel }) => tunnel)).size, 4);
  t.same([proxy.deps.table.size, proxy.deps.limits.open, proxy.deps.waiting.open, proxy.bugs], [0, 0, 0, []]);
});

t.test('a refused client that does not read or close is let go after a second', async (t) => {
  const proxy = await startTestProxy(t, { policy });
  const socket = await dialProxy(proxy.port);
  socket.write(connectHead('evil.test:443'));
  t.match(await proxy.closed(1), { cause: 'refused' });
  t.equal(proxy.deps.table.size, 0);
  socket.destroy();
});

t.test('the head may come byte by byte, with the hello right behind it', async (t) => {
  const origin = await startEcho(t);
  const proxy = await startTestProxy(t, { policy, origin: origin.port });
  const socket = await dialProxy(proxy.port);
  const hello = buildHello({ serverName: 'api.a.test' });
  for (const byte of Buffer.from(connectHead('api.a.test:443'))) {
    socket.write(Uint8Array.of(byte));
    await new Promise((turn) => setImmediate(turn));
  }
  socket.write(hello);
  t.equal((await readReply(socket)).status, 200);
  t.same(await readBytes(socket, hello.length), hello);
  socket.destroy();
});
