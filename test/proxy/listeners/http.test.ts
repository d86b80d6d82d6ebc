// Plain HTTP on the proxy port, on a live proxy: what reaches the origin, what comes back, and that each request is judged by itself.
import { once } from 'node:events';
import { request as ask, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import t from 'tap';
import { startHttpOrigin } from '../../helpers/http-origin.ts';
import { startOrigin } from '../../helpers/origin.ts';
import { closed, dialProxy, nextChunk, readBytes } from '../../helpers/proxy-client.ts';
import { startTestProxy, type TestProxy } from '../../helpers/proxy.ts';
import { wasReset } from '../../helpers/tcp.ts';

const reason = 'test';
const policy = {
  allow: [
    { host: 'plain.test', reason, protocol: 'http' },
    { host: 'other.test', reason, protocol: 'http', ports: [80, 8080] },
    { host: 'tls.test', reason, ports: [80, 443] },
    { host: 'small.test', reason, protocol: 'http', limits: { upBytes: 1000, downBytes: 1000 } },
  ],
  deny: [{ host: 'no.test', reason }],
};

const settings = { idleTimeoutMs: 3000 };

function head(url: string, lines: readonly string[] = [], method = 'GET'): string {
  const host = /^http:\/\/([^/?#]*)/u.exec(url)?.[1] ?? '';
  return [`${method} ${url} HTTP/1.1`, `Host: ${host}`, ...lines, '', ''].join('\r\n');
}

/** Sends `bytes` and reads until the proxy closes. */
async function whole(proxy: TestProxy, bytes: string | Buffer): Promise<string> {
  const socket = await dialProxy(proxy.port);
  socket.write(bytes);
  const answer = await readBytes(socket, Infinity);
  socket.destroy();
  return answer.toString('latin1');
}

t.test('a drain closes a kept-alive client that asks for nothing, at once and without a word', async (t) => {
  const origin = await startHttpOrigin(t, (_, response) => response.end('hello'));
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const idle = await dialProxy(proxy.port);
  idle.write(head('http://plain.test/'));
  let answer = '';
  while (!answer.endsWith('hello')) answer += String(await nextChunk(idle));
  while (proxy.deps.waiting.open === 0) await new Promise((turn) => setImmediate(turn));
  proxy.drain();
  proxy.deps.table.severWhere(({ state }) => state === 'head', 'draining');
  t.equal(String(await readBytes(idle, Infinity)), '', 'no answer to what was never asked');
  await proxy.deps.table.idle();
  t.same([origin.seen.length, proxy.closes.length], [1, 1], 'what was not asked has no line');
});

t.test(
  'an allowed request reaches the origin with a head built anew, and the answer comes back',
  async (t) => {
    const origin = await startHttpOrigin(t, (_, response) => {
      response.setHeader('Set-Cookie', ['a=1', 'b=2']);
      response.setHeader('Sallyport-Reason', 'rule_matched');
      response.setHeader('Via', '1.1 upstream');
      response.setHeader('Connection', 'X-Hop');
      response.setHeader('X-Hop', 'gone');
      response.end('hello');
    });
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
    const lines = [
      'User-Agent: test',
      'Accept: */*',
      'Accept: text/html',
      'Connection: close, X-Private',
      'X-Private: 1',
      'Keep-Alive: timeout=5',
      'Proxy-Connection: keep-alive',
      'Proxy-Authorization: Basic c2VjcmV0',
      'TE: trailers',
      'Via: 1.1 me',
      'X-Forwarded-For: 10.0.0.1',
      'Forwarded: for=10.0.0.1',
      'Sallyport-Run: other',
      'Upgrade: h2c',
      'Cookie: c=1',
    ];
    const answer = await whole(proxy, head('http://PLAIN.test.:80/path?query', lines));
    t.match(answer, /^HTTP\/1\.1 200 OK\r\n/u);
    t.match(answer, /set-cookie: a=1\r\nset-cookie: b=2\r\n/u);
    t.match(answer, /Content-Length: 5\r\nConnection: close\r\n\r\nhello$/u);
    t.notMatch(answer, /sallyport|via|x-hop|keep-alive/iu);
    t.match(origin.seen, [{ method: 'GET', url: '/path?query', body: '' }]);
    t.same(origin.seen[0]?.fields, [
      'host',
      'plain.test',
      'connection',
      'close',
      'user-agent',
      'test',
      'accept',
      '*/*',
      'accept',
      'text/html',
      'cookie',
      'c=1',
    ]);
    t.match(await proxy.closed(1), {
      mode: 'http',
      host: 'plain.test',
      port: 80,
      cause: 'both_ended',
      verdict: 'allow',
      reason: null,
    });
    t.match(proxy.decisions, [
      { mode: 'http', verdict: 'allow', reason: 'rule_matched', rule: 'allow/plain.test' },
    ]);
    t.notMatch(JSON.stringify([proxy.decisions, proxy.closes]), /query|path|secret|c2Vj/u);
  },
);

t.test(
  'only a rule for plain HTTP admits a request, and a refusal is the 403 that CONNECT has',
  async (t) => {
    const origin = await startHttpOrigin(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
    const cases: [string, number, string][] = [
      ['http://tls.test/', 403, 'protocol_not_allowed'],
      ['http://no.test/', 403, 'rule_denied'],
      ['http://evil.test/', 403, 'no_rule_matched'],
      ['http://plain.test:8080/', 403, 'port_not_allowed'],
      ['http://1.2.3.4/', 403, 'host_is_address'],
      ['http://[::1]:80/', 403, 'host_is_address'],
      ['http://2130706433/', 403, 'host_is_address'],
    ];
    for (const [url, status, why] of cases) {
      const reply = await proxy.send(head(url));
      t.match(
        [reply.status, reply.headers.get('sallyport-reason'), reply.body],
        [status, why, { reason: why, retry: 'none', run: 'test-run' }],
        url,
      );
      t.equal(reply.headers.get('connection'), 'close');
    }
    const { body } = await proxy.send(head('http://evil.test/'));
    t.same(body, (await proxy.connect('evil.test:80')).body, 'the same words');
    t.match(
      (await proxy.connect('plain.test:80')).body,
      { reason: 'protocol_not_allowed' },
      'CONNECT to it stays refused',
    );
    t.same([proxy.asked, origin.received().length, proxy.bugs], [[], 0, []]);
  },
);

t.test(
  'every request on one connection is judged and recorded by itself, pipelined or not (failure 20)',
  async (t) => {
    const origin = await startHttpOrigin(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
    const urls = [
      'http://plain.test/1',
      'http://other.test/2',
      'http://other.test:8080/3',
      'http://evil.test/4',
      'http://plain.test/5',
    ];
    const answer = await whole(proxy, urls.map((url) => head(url)).join(''));
    t.same(answer.match(/HTTP\/1\.1 \d+|you asked for \/\d/gu), [
      'HTTP/1.1 200',
      'you asked for /1',
      'HTTP/1.1 200',
      'you asked for /2',
      'HTTP/1.1 200',
      'you asked for /3',
      'HTTP/1.1 403',
    ]);
    await proxy.closed(4);
    t.same(
      proxy.decisions.map(({ host, port, reason: why }) => `${host}:${port} ${why}`),
      [
        'plain.test:80 rule_matched',
        'other.test:80 rule_matched',
        'other.test:8080 rule_matched',
        'evil.test:80 no_rule_matched',
      ],
    );
    t.equal(new Set(proxy.closes.map(({ tunnel }) => tunnel)).size, 4);
    t.same(
      proxy.closes.map(({ tunnel }) => tunnel),
      proxy.decisions.map(({ tunnel }) => tunnel),
    );
    t.equal(proxy.dialled.length, 3, 'each has a connection of its own');
    t.equal(origin.seen.length, 3);
  },
);

t.test(
  'a client that asks nothing more, and one that stays silent, have no event but those of their requests',
  async (t) => {
    const origin = await startHttpOrigin(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings: { headTimeoutMs: 400 } });
    for (const leaves of [true, false]) {
      const socket = await dialProxy(proxy.port);
      socket.write(head('http://plain.test/'));
      let text = '';
      while (!text.endsWith('/')) text += String(await nextChunk(socket));
      if (leaves) socket.end();
      t.equal(await nextChunk(socket), null);
      socket.destroy();
    }
    while (proxy.deps.table.size > 0) await proxy.deps.table.idle();
    t.same(
      [
        proxy.closes.length,
        proxy.decisions.length,
        proxy.deps.waiting.open,
        proxy.deps.limits.open,
        proxy.bugs,
      ],
      [2, 2, 0, 0, []],
    );
  },
);

t.test('content with a length and in chunks reaches the origin whole, and is framed anew', async (t) => {
  const origin = await startHttpOrigin(t, (_, response, body) => void response.end(`${body.length}`));
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const big = 'x'.repeat(300_000);
  const sent = [
    head('http://plain.test/a', [`Content-Length: ${big.length}`], 'POST') + big,
    head('http://plain.test/b', ['Transfer-Encoding: chunked'], 'POST') +
      `5\r\nhello\r\n${big.length.toString(16)}\r\n${big}\r\n0\r\n\r\n`,
    head('http://plain.test/c', ['Content-Length: 0'], 'PUT'),
    head('http://plain.test/d', ['Content-Length: 3'], 'GET') + 'abc',
    head('http://plain.test/e', [], 'DELETE'),
    head('http://plain.test/f', ['Connection: close'], 'HEAD'),
  ].join('');
  const answer = await whole(proxy, sent);
  t.equal(answer.match(/HTTP\/1\.1 200/gu)?.length, 6);
  t.match(answer, /\r\n\r\n300000HTTP/u);
  t.same(
    origin.seen.map(({ url, body }) => [url, body.length]),
    [
      ['/a', 300_000],
      ['/b', 300_005],
      ['/c', 0],
      ['/d', 3],
      ['/e', 0],
      ['/f', 0],
    ],
  );
  t.match(await proxy.closed(6), { cause: 'both_ended' });
  t.ok((proxy.closes[1]?.up ?? 0) > 300_005);
});

t.test(
  'an answer of unknown length is chunked to HTTP/1.1 and ends with the connection for HTTP/1.0',
  async (t) => {
    const origin = await startHttpOrigin(t, (_, response) => {
      response.write('one');
      setImmediate(() => void response.end('two'));
    });
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
    t.match(
      await whole(proxy, head('http://plain.test/', ['Connection: close'])),
      /Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n$/u,
    );
    const old = await whole(proxy, 'GET http://plain.test/ HTTP/1.0\r\nHost: plain.test\r\n\r\n');
    t.match(old, /Connection: close\r\n\r\nonetwo$/u);
    t.notMatch(old, /chunked/u);
  },
);

t.test('who expects 100-continue is asked for the content only when the answer is yes', async (t) => {
  const origin = await startHttpOrigin(t);
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const lines = ['Content-Length: 5', 'Expect: 100-continue', 'Connection: close'];
  const socket = await dialProxy(proxy.port);
  socket.write(head('http://plain.test/', lines, 'POST'));
  t.equal(String(await nextChunk(socket)), 'HTTP/1.1 100 Continue\r\n\r\n');
  socket.write('hello');
  t.match(String(await readBytes(socket, Infinity)), /^HTTP\/1\.1 200/u);
  socket.destroy();
  t.match(origin.seen, [{ body: 'hello' }]);
  t.match(await whole(proxy, head('http://evil.test/', lines, 'POST')), /^HTTP\/1\.1 403/u);
});

t.test('an interim answer is passed on before the final one', async (t) => {
  const origin = await startHttpOrigin(t, (_, response) => {
    response.writeEarlyHints({ link: '</x.css>; rel=preload' });
    response.end('done');
  });
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const answer = await whole(proxy, head('http://plain.test/', ['Connection: close']));
  t.match(answer, /^HTTP\/1\.1 103 Early Hints\r\nlink: [^\r]+\r\n\r\nHTTP\/1\.1 200 OK\r\n[^]*done$/u);
});

t.test(
  "a redirect is the client's to follow, and compressed content stays as it is (failure 57)",
  async (t) => {
    const origin = await startHttpOrigin(t, (_, response) => {
      response.writeHead(302, { location: 'http://evil.test/', 'content-encoding': 'gzip' });
      response.end('not really gzip');
    });
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
    t.match(
      await whole(proxy, head('http://plain.test/', ['Connection: close'])),
      /^HTTP\/1\.1 302[^]*location: http:\/\/evil\.test\/\r\n[^]*\r\nnot really gzip\r\n0\r\n\r\n$/u,
    );
    t.same(proxy.asked, ['plain.test']);
  },
);

t.test('a WebSocket becomes a tunnel, both ways, with what came right behind the head', async (t) => {
  const origin = await startOrigin(t, (socket) => {
    socket.once('data', () => {
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nfirst',
      );
      socket.on('data', (chunk: Buffer) => void socket.write(chunk));
      socket.once('end', () => void socket.end());
    });
  });
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const socket = await dialProxy(proxy.port);
  socket.write(
    `${head('http://plain.test/ws', ['Connection: Upgrade', 'Upgrade: WebSocket', 'Sec-WebSocket-Key: k'])}early`,
  );
  let text = '';
  while (!text.endsWith('firstearly')) text += String(await nextChunk(socket));
  t.match(
    text,
    /^HTTP\/1\.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirstearly$/u,
  );
  t.match(
    String(origin.received()),
    /^GET \/ws HTTP\/1\.1\r\nhost: plain\.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\nearly$/iu,
  );
  socket.end('bye');
  await readBytes(socket, Infinity);
  t.match(await proxy.closed(1), { mode: 'http', cause: 'both_ended', verdict: 'allow' });
  t.equal(proxy.bugs.length, 0);
});

t.test('byte budgets cut an exchange in either direction, and a head counts', async (t) => {
  const origin = await startHttpOrigin(t, (_, response) => void response.end('x'.repeat(5000)));
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const url = 'http://small.test/';
  t.match(await whole(proxy, head(url)), /^(?!.*x{1000})/su, 'no more than the budget comes down');
  await whole(proxy, head(url, ['Content-Length: 5000'], 'POST') + 'y'.repeat(5000));
  await whole(proxy, head(`${url}${'z'.repeat(1200)}`));
  await proxy.closed(3);
  t.same(
    proxy.closes.map(({ cause, reason: why }) => [cause, why]),
    Array.from({ length: 3 }, () => ['limit_bytes', 'limit_bytes']),
  );
  t.notMatch(String(origin.received()), /y{100}|z{100}/u);
});

t.test(
  'a destination that breaks before its answer is a 502, and one that breaks within it cuts the client',
  async (t) => {
    const says = [
      '',
      'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
      'nonsense\r\n\r\n',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
      // With no protocol in it, it was passed on like a 103.
      'HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi',
    ];
    for (const [index, text] of says.entries()) {
      const origin = await startOrigin(t, (socket) => void socket.once('data', () => void socket.end(text)));
      const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
      const answer = await whole(proxy, head('http://plain.test/'));
      if (index === 1) t.match(answer, /^HTTP\/1\.1 200 OK[^]*half$/u);
      else t.match(answer, /^HTTP\/1\.1 502 Bad Gateway\r\nSallyport-Reason: upstream_reset\r\n/u, text);
      t.match(await proxy.closed(1), {
        reason: 'upstream_reset',
        cause: index === 1 ? 'upstream_error' : 'failed',
      });
      t.same(proxy.bugs, []);
    }
  },
);

t.test('a slow reader holds the origin back instead of filling the memory', async (t) => {
  const size = 64 * 1024 * 1024;
  let produced = 0;
  const origin = await startOrigin(t, (socket) => {
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`);
      const piece = Buffer.alloc(65_536, 0x78);
      const more = (): void => {
        while (produced < size) {
          produced += piece.length;
          if (!socket.write(piece)) return;
        }
        socket.end();
      };
      socket.on('drain', more);
      more();
    });
  });
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const socket = await dialProxy(proxy.port);
  socket.write(head('http://plain.test/', ['Connection: close']));
  await nextChunk(socket);
  // Long enough for all of it to come, had it been taken.
  for (let i = 0; i < 50; i += 1) await proxy.send(head('http://evil.test/'));
  t.ok(produced < size / 2, `only ${produced} bytes were taken`);
  let read = 0;
  for await (const piece of socket) read += (piece as Buffer).length;
  t.ok(read >= size - 65_536 * 2);
  const close = await proxy.closed(51);
  t.match(close, { cause: 'both_ended' });
});

t.test(
  'an exchange that is cut between content and an answer without a length takes nobody along',
  async (t) => {
    const origin = await startOrigin(t, (socket) => {
      socket.on('end', () => socket.end());
      socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\nearly'));
    });
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
    const half = async (): Promise<Socket> => {
      const socket = await dialProxy(proxy.port);
      socket.write(`${head('http://plain.test/', ['Content-Length: 10'], 'POST')}half`);
      let said = '';
      while (!said.includes('early')) said += String(await nextChunk(socket));
      return socket;
    };
    (await half()).resetAndDestroy();
    t.match(await proxy.closed(1), { cause: 'client_error' });
    await closed(await origin.connection(0));
    const severed = await half();
    proxy.deps.table.severWhere(() => true, 'policy_changed');
    t.match(await proxy.closed(2), { cause: 'severed' });
    await Promise.all([closed(severed), closed(await origin.connection(1))]);
    const refused = await whole(proxy, head('http://evil.test/'));
    t.match(refused, /^HTTP\/1\.1 403 /u, 'it still answers');
    t.same(proxy.bugs, []);
  },
);

t.test('answers without content wait for a client that asks on and does not read', async (t) => {
  let answered = 0;
  const origin = await startOrigin(t, (socket) => {
    socket.once('data', () => {
      answered += 1;
      socket.end(`HTTP/1.1 200 OK\r\nX: ${'a'.repeat(60_000)}\r\nContent-Length: 5\r\n\r\n`);
    });
  });
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings: { idleTimeoutMs: 500 } });
  const socket = await dialProxy(proxy.port);
  socket.pause();
  const count = 1000;
  socket.write(head('http://plain.test/', [], 'HEAD').repeat(count));
  while (proxy.closes.at(-1)?.cause !== 'idle') await proxy.closed(proxy.closes.length + 1);
  t.ok(answered < count / 2, `${answered} were fetched before anybody read one`);
  socket.destroy();
});

t.test('interim answers do not pile up before a client that does not read', async (t) => {
  const all = 64 * 1024 * 1024;
  let sent = 0;
  const origin = await startOrigin(t, (socket) => {
    const piece = Buffer.from(`HTTP/1.1 103 Early Hints\r\nLink: ${'a'.repeat(8000)}\r\n\r\n`.repeat(8));
    const more = (): void => {
      while (sent < all) {
        sent += piece.length;
        if (!socket.write(piece)) return;
      }
    };
    socket.on('drain', more).once('data', more);
  });
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings: { idleTimeoutMs: 500 } });
  const socket = await dialProxy(proxy.port);
  socket.pause();
  socket.write(head('http://plain.test/'));
  const { cause, down } = await proxy.closed(1);
  t.equal(cause, 'idle');
  t.ok(down < all / 4, `${down} bytes were taken on for the client`);
  socket.destroy();
});

t.test('an exchange is cut when it is idle, when it is severed, and when its client leaves', async (t) => {
  const origin = await startOrigin(t);
  const idle = await startTestProxy(t, { policy, origin: origin.port, settings: { idleTimeoutMs: 200 } });
  t.equal(await whole(idle, head('http://plain.test/')), '');
  t.match(await idle.closed(1), { cause: 'idle' });
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const socket = await dialProxy(proxy.port);
  socket.write(head('http://plain.test/'));
  await once(await origin.connection(1), 'data');
  t.match(proxy.deps.table.list(), [{ mode: 'http', host: 'plain.test', state: 'open' }]);
  proxy.deps.table.severWhere(() => true, 'policy_changed');
  await closed(socket);
  t.match(await proxy.closed(1), { cause: 'severed', reason: 'policy_changed' });
  const leaver = await dialProxy(proxy.port);
  leaver.write(head('http://plain.test/'));
  const far = await origin.connection(2);
  await once(far, 'data');
  leaver.resetAndDestroy();
  await closed(far);
  t.match(await proxy.closed(2), { cause: 'client_error' });
});

t.test('an answer that only its connection ends is whole at a FIN, and cut at a reset', async (t) => {
  for (const [end, minor] of [
    ['end', 1],
    ['reset', 1],
    ['reset', 0],
  ] as const) {
    const origin = await startOrigin(t, (socket) => {
      socket.once('data', () => socket.write(`HTTP/1.1 200 OK\r\n\r\npart`));
    });
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
    const socket = await dialProxy(proxy.port);
    let said = '';
    socket.on('data', (piece: Buffer) => {
      said += piece.toString();
    });
    const reset = end === 'reset' ? wasReset(socket) : null;
    socket.write(head('http://plain.test/').replace('HTTP/1.1', `HTTP/1.${minor}`));
    while (!said.includes('part')) await once(socket, 'data');
    const far = await origin.connection(0);
    if (end === 'end') far.end();
    else far.resetAndDestroy();
    const { cause } = await proxy.closed(1);
    if (end === 'end') {
      while (!said.endsWith('0\r\n\r\n')) await once(socket, 'data');
      t.equal(cause, 'both_ended');
      socket.destroy();
    } else {
      t.equal(cause, 'upstream_error');
      t.equal(await reset, true, `HTTP/1.${minor}: the client cannot take it for whole`);
    }
  }
});

t.test("Node's own http client is served, agent and all", async (t) => {
  const origin = await startHttpOrigin(t);
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const asked = ask({
    port: proxy.port,
    host: '127.0.0.1',
    path: 'http://plain.test/x',
    headers: { host: 'plain.test' },
  });
  asked.end();
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  t.equal(answer.statusCode, 200);
  answer.resume();
});
