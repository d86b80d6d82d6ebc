// The SOCKS5 protocol of the proxy port on a live proxy: what is answered, that the gates are CONNECT's, and what a hostile client gets.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ProxyError } from '../../../proxy/errors.ts';
import { parseGreeting, parseRequest } from '../../../proxy/listeners/socks5-frames.ts';
import { buildHello } from '../../helpers/hello.ts';
import { startEcho, startOrigin } from '../../helpers/origin.ts';
import { closed, dialProxy, readBytes } from '../../helpers/proxy-client.ts';
import { allowing, startTestProxy, type TestProxy } from '../../helpers/proxy.ts';
import { addressRequest, greeting, nameRequest, socksConnect } from '../../helpers/socks.ts';

interface Case {
  readonly name: string;
  readonly sends: string;
  readonly gets: string;
  readonly reason: string;
  readonly host?: string;
}

const { policy: casePolicy, cases } = JSON.parse(
  readFileSync(join(import.meta.dirname, 'cases/socks5.json'), 'utf8'),
) as { policy: object; cases: readonly Case[] };
const policy = allowing('api.a.test', 'b.test');
const hello = buildHello({ serverName: 'api.a.test' });
const success = '05000001000000000000';

/** Bytes of `text`; `{ff*255}` is a byte so many times. */
function bytesOf(text: string): Buffer {
  const whole = text.replaceAll(/\{(\w\w)\*(\d+)\}/gu, (_, byte: string, count: string) =>
    byte.repeat(Number(count)),
  );
  return Buffer.from(whole.replaceAll(' ', ''), 'hex');
}

/** Everything the proxy says to `bytes` until it closes. */
async function answerTo(proxy: TestProxy, bytes: Buffer, isTrickled = false): Promise<Buffer> {
  const socket = await dialProxy(proxy.port);
  for (const piece of isTrickled ? bytes : [bytes]) {
    socket.write(typeof piece === 'number' ? Uint8Array.of(piece) : piece);
    if (isTrickled) await new Promise((turn) => setImmediate(turn));
  }
  const answer = await readBytes(socket, Infinity);
  socket.destroy();
  return answer;
}

function shown(answer: Buffer): string {
  return answer.subarray(0, 5).equals(Buffer.from('HTTP/'))
    ? `{http ${answer.toString('latin1', 9, 12)}}`
    : answer.toString('hex');
}

t.test(
  'every frame of the corpus gets its reply and its reason, whole or byte by byte, and nothing is looked up',
  async (t) => {
    const origin = await startOrigin(t);
    const proxy = await startTestProxy(t, { policy: casePolicy, origin: origin.port });
    let count = 0;
    for (const c of cases) {
      for (const isTrickled of [false, true]) {
        const answer = shown(await answerTo(proxy, bytesOf(c.sends), isTrickled));
        await proxy.closed((count += 1));
        const decision = proxy.decisions.at(-1);
        const host = c.host === undefined ? {} : { host: decision?.host };
        t.same(
          { name: c.name, sends: c.sends, gets: answer, reason: decision?.reason, ...host },
          { ...c, gets: c.gets.startsWith('{') ? c.gets : c.gets.replaceAll(' ', '') },
        );
        t.equal(decision?.mode, c.gets.startsWith('{') ? 'connect' : 'socks5');
      }
    }
    t.same(
      [proxy.decisions.length, proxy.asked, origin.sockets.length, proxy.bugs],
      [2 * cases.length, [], 0, []],
    );
  },
);

t.test(
  'a hello right behind the request is read by the third gate and reaches the origin, once',
  async (t) => {
    const origin = await startEcho(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port });
    const { method, reply, socket } = await socksConnect(proxy.port, nameRequest('API.a.test.', 443), hello);
    t.same([method, reply], [0, 0]);
    t.same(await readBytes(socket, hello.length), hello);
    t.same(origin.received(), hello);
    socket.destroy();
    t.match(await proxy.closed(1), {
      mode: 'socks5',
      host: 'api.a.test',
      port: 443,
      verdict: 'allow',
      up: hello.length,
    });
    t.match(proxy.decisions, [{ mode: 'socks5', reason: 'rule_matched', rule: 'allow/api.a.test' }]);
  },
);

t.test('greeting, request and hello may come byte by byte', async (t) => {
  const origin = await startEcho(t);
  const proxy = await startTestProxy(t, { policy, origin: origin.port });
  const socket = await dialProxy(proxy.port);
  for (const byte of [...greeting, ...nameRequest('api.a.test', 443), ...hello.subarray(0, 9)]) {
    socket.write(Uint8Array.of(byte));
    await new Promise((turn) => setImmediate(turn));
  }
  t.equal(
    (await readBytes(socket, 12)).toString('hex'),
    `0500${success}`,
    'and the success names no address of the proxy',
  );
  socket.write(hello.subarray(9));
  t.same(await readBytes(socket, hello.length), hello);
  socket.destroy();
});

t.test(
  'the third gate is as strict as for CONNECT: nothing goes upstream and the tunnel is reset (failures 15, 27)',
  async (t) => {
    const origin = await startOrigin(t);
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings: { helloTimeoutMs: 200 } });
    const first: [Buffer, string][] = [
      [buildHello({ serverName: 'b.test' }), 'server_name_mismatch'],
      [buildHello({}), 'server_name_missing'],
      [Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'not_tls'],
      [Buffer.from('SSH-2.0-x\r\n'), 'not_tls'],
      [Buffer.alloc(0), 'hello_timeout'],
    ];
    for (const [index, [bytes, reason]] of first.entries()) {
      const { reply, socket } = await socksConnect(proxy.port, nameRequest('api.a.test', 443), bytes);
      t.equal(reply, 0);
      await closed(socket);
      t.match(await proxy.closed(index + 1), { cause: 'refused', reason });
    }
    t.equal(origin.received().length, 0);
  },
);

t.test('a world that fails is told apart from a no: 4 and 5, and the limits are 1', async (t) => {
  const says = async (options: Parameters<typeof startTestProxy>[1]): Promise<number | undefined> => {
    const proxy = await startTestProxy(t, options);
    return (await socksConnect(proxy.port, nameRequest('api.a.test', 443))).reply;
  };
  const fails = (code: 'dns_failed' | 'dns_timeout') => ({
    policy,
    answers: () => Promise.reject(new ProxyError(code, 'resolve', 'test')),
  });
  const dials = (code: 'dial_timeout' | 'upstream_reset') => ({
    policy,
    deps: { dial: () => Promise.reject(new ProxyError(code, 'dial', 'test')) },
  });
  const full = { maxTunnelsPerPrincipal: 0 };
  t.same(
    [
      await says({ policy }),
      await says(fails('dns_failed')),
      await says(fails('dns_timeout')),
      await says(dials('dial_timeout')),
      await says(dials('upstream_reset')),
      await says({ policy, settings: { connectionBurst: 0, connectionsPerSecond: 0.001 } }),
      await says({ policy, answers: () => ['127.0.0.1'] }),
      await says({ policy, settings: { principals: [{ name: 'x', source: '127.0.0.9/32', listen: null }] } }),
    ],
    [5, 4, 4, 4, 1, 1, 2, 2],
  );
  const crowded = await startTestProxy(t, { policy, settings: full });
  const answer = await answerTo(crowded, greeting);
  t.ok(
    ['05ff', '{http 429}'].includes(shown(answer)),
    'one that finds no place to wait in is turned away unread',
  );
  t.match(await crowded.closed(1), { reason: 'limit_tunnels' });
});

t.test('a greeting or a request that trickles is cut at the limit of the head, both together', async (t) => {
  const proxy = await startTestProxy(t, { policy, settings: { headTimeoutMs: 200 } });
  t.same(shown(await answerTo(proxy, Buffer.of(5))), '05ff');
  t.same(shown(await answerTo(proxy, Buffer.of(5, 1, 0, 5, 1, 0))), '050005010001000000000000');
  await proxy.closed(2);
  t.same(
    proxy.decisions.map(({ reason, detail }) => [reason, detail]),
    Array.from({ length: 2 }, () => ['request_malformed', 'no complete SOCKS request came in time']),
  );
  t.equal(proxy.deps.waiting.open, 0);
});

t.test('a client that leaves within its frames is gone, without a verdict', async (t) => {
  const proxy = await startTestProxy(t, { policy });
  for (const bytes of [Buffer.of(5), Buffer.of(5, 1, 0), Buffer.of(5, 1, 0, 5, 1, 0, 3)]) {
    const socket = await dialProxy(proxy.port);
    socket.end(bytes);
    await closed(socket);
  }
  await proxy.closed(3);
  t.same(
    proxy.closes.map(({ cause, verdict }) => [cause, verdict]),
    Array.from({ length: 3 }, () => ['client_gone', null]),
  );
  t.same([proxy.decisions, proxy.deps.table.size, proxy.bugs], [[], 0, []]);
});

t.test('a frame is never read beyond its end, and no frame is longer than 262 bytes', async (t) => {
  const longest = nameRequest('a'.repeat(255), 443);
  for (const bytes of [longest, addressRequest(new Uint8Array(16), 443), nameRequest('a.test', 443)]) {
    const cut = [...bytes.keys()].map((end) => parseRequest(bytes.subarray(0, end)).kind);
    t.same([...new Set(cut)], ['need_more']);
    t.match(parseRequest(Buffer.concat([bytes, hello])), { kind: 'complete', length: bytes.length });
  }
  t.equal(longest.length, 262);
  t.match(parseGreeting(Buffer.concat([greeting, hello])), {
    kind: 'complete',
    length: 3,
    value: { offersNone: true },
  });
});
