// A refusal at every door of a live proxy: one status, one JSON body and one set of fields wherever HTTP is spoken, one reply and one alert elsewhere,
// and the same words on record. And nobody but the proxy can say what only the proxy says.
import t, { type Test } from 'tap';
import { failureCodes, reasons } from '../../policy/index.ts';
import { ProxyError } from '../../proxy/errors.ts';
import type { Limits } from '../../proxy/limits.ts';
import { askAt, doors, ownLoopback, typedTarget, whyNot } from '../helpers/doors.ts';
import type { Asked, LiveDoor } from '../helpers/doors.ts';
import { startOrigin } from '../helpers/origin.ts';
import { startTestProxy, type TestProxy, type TestProxyOptions } from '../helpers/proxy.ts';

const port = 20_443;
const reason = 'test';
const policy = {
  allow: [
    { host: 'tunnel.test', reason, ports: [port] },
    { host: 'plains.test', reason, ports: [port], protocol: 'http' },
    { host: 'others.test', reason },
  ],
  deny: [{ host: 'no.test', reason }],
};

/** What makes a request fail, and how that is told: the status of HTTP, the reply of SOCKS5, the alert of TLS. */
interface Row {
  readonly told: readonly [status: number, reply: number, alert: 49 | 80];
  /** Asked for at every door; else what is allowed there. */
  readonly target?: string;
  readonly options?: Partial<TestProxyOptions>;
  /** Once the proxy is there. */
  readonly after?: (proxy: TestProxy) => void;
  /** It is cut when its name is being looked up. */
  readonly cut?: 'policy_changed' | 'fence_broken';
}

const full = (why: 'limit_tunnels' | 'limit_rate'): Limits => ({
  acquire: () => ({ ok: false, reason: why }),
  open: 0,
});
const failing = (error: Error): Partial<TestProxyOptions> => ({
  answers() {
    throw error;
  },
});
const dialling = (code: 'dial_timeout' | 'upstream_reset'): Partial<TestProxyOptions> => ({
  deps: {
    dial() {
      throw new ProxyError(code, 'dial', 'no way');
    },
  },
});

const rows: Readonly<Record<string, Row>> = {
  request_malformed: { told: [400, 1, 49], target: `no_name.test:${port}` },
  principal_unknown: {
    told: [403, 2, 49],
    options: { settings: { principals: [{ name: 'web', source: '10.0.3.0/24', listen: null }] } },
  },
  rule_denied: { told: [403, 2, 49], target: `no.test:${port}` },
  no_rule_matched: { told: [403, 2, 49], target: `evil.test:${port}` },
  port_not_allowed: { told: [403, 2, 49], target: `others.test:${port}` },
  protocol_not_allowed: { told: [403, 2, 49] },
  host_is_address: { told: [403, 2, 49], target: `93.184.215.14:${port}` },
  address_not_public: { told: [403, 2, 49], options: { answers: () => ['10.0.0.1'] } },
  limit_tunnels: { told: [429, 1, 80], options: { deps: { limits: full('limit_tunnels') } } },
  limit_rate: { told: [429, 1, 80], options: { deps: { limits: full('limit_rate') } } },
  policy_changed: { told: [403, 2, 49], cut: 'policy_changed' },
  fence_broken: { told: [403, 2, 49], cut: 'fence_broken' },
  draining: { told: [503, 1, 80], after: (proxy) => proxy.drain() },
  dns_failed: { told: [502, 4, 80], options: failing(new ProxyError('dns_failed', 'resolve', 'none')) },
  dns_timeout: { told: [504, 4, 80], options: failing(new ProxyError('dns_timeout', 'resolve', 'none')) },
  dial_refused: { told: [502, 5, 80] },
  dial_timeout: { told: [504, 4, 80], options: dialling('dial_timeout') },
  upstream_reset: { told: [502, 1, 80], options: dialling('upstream_reset') },
  audit_unavailable: {
    told: [503, 1, 80],
    options: {
      onDecided() {
        throw new Error('disk full');
      },
    },
  },
  internal: { told: [503, 1, 80], options: { ...failing(new Error('a bug')), expectsBugs: true } },
};

/** What is no answer to a request: leave, or found in the bytes of a tunnel, which is cut (vectors.test.ts, gates.test.ts). */
const neverAnswered = [
  'rule_matched',
  'service_matched',
  'server_name_missing',
  'server_name_mismatch',
  'ech_refused',
  'not_tls',
  'hello_malformed',
  'hello_timeout',
  'limit_bytes',
];

interface World {
  readonly proxy: TestProxy;
  readonly beside: string;
}

async function startWorld(t: Test, { options = {}, after, cut }: Row): Promise<World> {
  const beside = ownLoopback();
  const cutting = cut === undefined ? {} : { answers: async () => await cutNow() };
  const proxy = await startTestProxy(t, {
    policy,
    ...cutting,
    ...options,
    settings: { transparent: [`${beside}:${port}`], ...options.settings },
  });
  const cutNow = async (): Promise<readonly string[]> => {
    setImmediate(() => void proxy.deps.table.severWhere(() => true, cut ?? 'draining'));
    return await new Promise<never>(() => {});
  };
  after?.(proxy);
  return { proxy, beside };
}

function targetFor({ mode }: LiveDoor, why: string, { target }: Row): string {
  const isHttp = (mode === 'http') !== (why === 'protocol_not_allowed');
  return target ?? `${isHttp ? 'plains' : 'tunnel'}.test:${port}`;
}

async function ask(door: LiveDoor, target: string, { proxy, beside }: World): Promise<Asked> {
  const isBeside = door.at === 'transparent';
  return await askAt(
    isBeside ? beside : '127.0.0.1',
    isBeside ? port : proxy.port,
    door.says(typedTarget(target)),
  );
}

/** The host that was asked for is not the same in every protocol: a rule is for one of them. */
const sameHost = (text: string): string => text.replaceAll(/(?:tunnel|plains)\.test/gu, 'HOST');

function wordsOf({ answer }: Asked): unknown {
  const [head = '', body = ''] = sameHost(answer.toString('latin1')).split('\r\n\r\n');
  return { head: head.split('\r\n'), body: JSON.parse(body) as unknown };
}

for (const [why, row] of Object.entries(rows)) {
  t.test(`${why} is told in one way by each protocol (failure 62)`, async (t) => {
    const world = await startWorld(t, row);
    const [status, reply, alert] = row.told;
    const words: unknown[] = [];
    const able = doors.filter((door) => whyNot(door, typedTarget(targetFor(door, why, row))) === undefined);
    for (const door of able) {
      const asked = await ask(door, targetFor(door, why, row), world);
      const hex = asked.answer.toString('hex');
      if (door.mode === 'socks5') t.equal(hex, `0500050${reply}0001000000000000`, door.name);
      else if (door.mode === 'transparent') t.equal(hex, `150303000202${alert.toString(16)}`, door.name);
      else {
        t.match(
          asked.answer.toString(),
          new RegExp(`^HTTP/1\\.1 ${status} [^]*\r\nSallyport-Reason: ${why}\r\n`, 'u'),
        );
        words.push(wordsOf(asked));
      }
    }
    const [first, ...others] = words;
    t.equal(others.length, 2, 'three doors speak HTTP');
    // What is wrong with a request each protocol says in its own words.
    for (const other of others) if (why !== 'request_malformed') t.same(other, first);
    const { closes, bugs } = world.proxy;
    await world.proxy.closed(able.length);
    t.same(new Set(closes.map((close) => close.reason)), new Set([why]), 'on record, too');
    t.equal(bugs.length, why === 'internal' ? able.length : 0);
  });
}

t.test('every reason and every failure is in the table, or is never an answer', async (t) => {
  const all = [...reasons, ...failureCodes].map(({ name }) => name);
  t.same([...Object.keys(rows), ...neverAnswered].toSorted(), all.toSorted());
});

t.test('without hints no door has one', async (t) => {
  const world = await startWorld(t, { told: [403, 2, 49], options: { settings: { hints: false } } });
  for (const door of doors.filter(({ mode }) => mode === 'connect' || mode === 'http')) {
    const { answer } = await ask(door, `tunnels.test:${port}`, world);
    t.notMatch(answer.toString(), /"(?:hint|didYouMean|howToRequest)"/u, door.name);
  }
});

const ours = [
  'Sallyport-Reason: rule_matched',
  'SALLYPORT-POLICY: x',
  'X-Sallyport-Run: x',
  'Proxy-Status: x; error=ok',
];

t.test(
  'what only the proxy says reaches no origin from a client, and no client from an origin (failure 62)',
  async (t) => {
    const answers = [
      `HTTP/1.1 200 OK\r\n${ours.join('\r\n')}\r\nContent-Length: 2\r\nX-Kept: 1\r\n\r\nhi`,
      `HTTP/1.1 403 Forbidden\r\nSallyport-Reason: rule_denied\r\nContent-Length: 2\r\nX-Kept: 1\r\n\r\nno`,
      `HTTP/1.1 103 Early Hints\r\n${ours.join('\r\n')}\r\nX-Kept: 1\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n`,
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sallyport-Reason\r\nX-Kept: 1\r\n\r\n2\r\nhi\r\n0\r\n${ours.join('\r\n')}\r\n\r\n`,
      `HTTP/1.1 200 OK\r\nConnection: X-Gone\r\nX-Gone: 1\r\n${ours.join('\r\n')}\r\nX-Kept: 1\r\n\r\nto the end`,
    ];
    for (const text of answers) {
      const origin = await startOrigin(t, (socket) => void socket.once('data', () => void socket.end(text)));
      const world = await startWorld(t, { told: [200, 0, 49], options: { origin: origin.port } });
      for (const door of doors.filter(({ mode }) => mode === 'http')) {
        const usual = door.says(typedTarget(`plains.test:${port}`)).toString();
        const bytes = Buffer.from(
          usual.replace(
            'Connection: close',
            [...ours, 'Connection: close, X-Mine', 'X-Mine: 1'].join('\r\n'),
          ),
        );
        const isBeside = door.at === 'transparent';
        const { answer } = await askAt(
          isBeside ? world.beside : '127.0.0.1',
          isBeside ? port : world.proxy.port,
          bytes,
        );
        t.match(answer.toString(), /^HTTP\/1\.1 \d+ [^]*x-kept: 1\r\n/u, door.name);
        t.notMatch(answer.toString(), /sallyport|proxy-status|x-gone/iu, text);
      }
      t.match(String(origin.received()), /^GET \/ /u);
      t.notMatch(String(origin.received()), /sallyport|proxy-status|x-mine/iu);
      t.same(world.proxy.bugs, []);
    }
  },
);
