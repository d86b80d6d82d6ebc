// A tunnel from accept to audit line, on real sockets: who gets through, what was asked of the world on the way, what is remembered.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import t from 'tap';
import { decide, parseAddress, type Grant } from '../../policy/index.ts';
import { dial } from '../../proxy/dial.ts';
import type { Relay } from '../../proxy/relay/index.ts';
import { buildHello } from '../helpers/hello.ts';
import { startEcho, startOrigin, startTlsOrigin } from '../helpers/origin.ts';
import { closed, connectHead, dialProxy, nextChunk, readBytes, readReply } from '../helpers/proxy-client.ts';
import { allowing, publicAddress, startTestProxy } from '../helpers/proxy.ts';

t.test('a listed name reaches its origin over TLS, and both events tell the same story', async (t) => {
  const origin = await startTlsOrigin(t, ['good.test']);
  const proxy = await startTestProxy(t, { policy: allowing('good.test'), origin: origin.port });
  const { status, socket } = await proxy.connect('good.test:443');
  t.equal(status, 200);
  const tls = connectTls({ socket, servername: 'good.test', ca: origin.certificate });
  await once(tls, 'secureConnect');
  tls.write('hi\n');
  t.equal(String(await once(tls, 'data')), 'hello good.test\n');
  tls.end();
  const close = await proxy.closed(1);
  t.match(close, {
    verdict: 'allow',
    cause: 'both_ended',
    reason: null,
    host: 'good.test',
    port: 443,
    address: publicAddress,
  });
  t.ok(close.up > 0 && close.down > 0, 'bytes are counted both ways');
  t.match(proxy.decisions, [
    { verdict: 'allow', reason: 'rule_matched', tunnel: close.tunnel, addresses: [publicAddress] },
  ]);
  t.same([proxy.asked, proxy.closes.length, proxy.bugs], [['good.test'], 1, []]);
});

t.test('bytes go both ways, half-closed each way', async (t) => {
  const origin = await startEcho(t);
  const proxy = await startTestProxy(t, { policy: allowing('good.test'), origin: origin.port });
  const { socket } = await proxy.connect('good.test:443');
  const hello = buildHello({ serverName: 'good.test' });
  socket.write(hello);
  t.same(await readBytes(socket, hello.length), hello);
  socket.end(Buffer.alloc(300_000, 7));
  t.equal((await readBytes(socket, 300_000)).length, 300_000);
  t.equal(await nextChunk(socket), null);
  const size = hello.length + 300_000;
  t.match(await proxy.closed(1), { cause: 'both_ended', up: size, down: size });
});

t.test(
  'dial cannot be reached without a Grant: not by its type, and not by any denied request',
  async (t) => {
    const proxy = await startTestProxy(t, { policy: allowing('good.test'), ownAddresses: [publicAddress] });
    const { policyStore } = proxy.deps;
    const request = {
      principal: { name: 'local' },
      target: { kind: 'malformed', shown: '', problem: '', help: '' },
      mode: 'connect',
    } as const;
    const addresses = [parseAddress('127.0.0.1')].filter((one) => one !== undefined);
    const decision = decide(policyStore.current, request);
    const options = { attemptTimeoutMs: 1, totalTimeoutMs: 1 };
    // Never called: it is here for the compiler.
    const typeTest = async (): Promise<void> => {
      // @ts-expect-error: a literal that looks like a grant is none
      await dial({ request, decision, addresses, port: 443, host: 'good.test' }, options);
      // @ts-expect-error: a decision is no grant
      await dial(decision, options);
      // @ts-expect-error: a host name is no grant
      await dial('good.test', options);
      // @ts-expect-error: the same through the seam that open() uses
      await proxy.deps.dial({ addresses, port: 443 }, options);
      const made: Grant | undefined = undefined;
      // @ts-expect-error: nothing is no grant
      await dial(made, options);
    };
    t.type(typeTest, 'function');
    const denied = ['evil.test:443', '1.2.3.4:443', 'good.test:22', 'x', 'good.test:443'];
    for (const authority of denied) t.not((await proxy.connect(authority)).status, 200, authority);
    t.same(proxy.dialled, [], 'the last one had an address of our own');
  },
);

t.test(
  'a client that leaves while its name is looked up or dialled ends that work (failure 70)',
  async (t) => {
    const origin = await startEcho(t);
    const ended: string[] = [];
    const answers = async (host: string, signal?: AbortSignal): Promise<readonly string[]> => {
      if (host !== 'slow.test') return [publicAddress];
      await new Promise((resolve) => signal?.addEventListener('abort', resolve));
      ended.push(host);
      return [];
    };
    const policy = allowing('slow.test', 'stalled.test');
    const proxy = await startTestProxy(t, { policy, origin: origin.port, answers, stalls: ['stalled.test'] });
    for (const [i, host] of ['slow.test', 'stalled.test'].entries()) {
      for (const [j, leave] of [
        (s: Socket) => void s.resetAndDestroy(),
        (s: Socket) => void s.destroy(),
      ].entries()) {
        const socket = await dialProxy(proxy.port);
        socket.write(connectHead(`${host}:443`));
        while (proxy.deps.table.list().every(({ state }) => state !== (i === 0 ? 'resolving' : 'dialling'))) {
          await new Promise((turn) => setImmediate(turn));
        }
        leave(socket);
        t.match(await proxy.closed(2 * i + j + 1), { cause: 'client_gone', reason: null });
      }
    }
    t.same(ended, ['slow.test', 'slow.test']);
    t.equal(origin.sockets.length, 0);
  },
);

t.test('an origin that resets ends its own tunnel, with a code that is no denial (failure 70)', async (t) => {
  const origin = await startOrigin(t);
  const proxy = await startTestProxy(t, { policy: allowing('good.test'), origin: origin.port });
  const before = await proxy.connect('good.test:443');
  (await origin.connection(0)).resetAndDestroy();
  before.socket.write(buildHello({ serverName: 'good.test' }));
  await closed(before.socket);
  t.match(await proxy.closed(1), { cause: 'upstream_error', reason: 'upstream_reset', verdict: 'allow' });
  const open = await proxy.connect('good.test:443', { after: buildHello({ serverName: 'good.test' }) });
  const upstream = await origin.connection(1);
  await once(upstream, 'data');
  upstream.resetAndDestroy();
  await closed(open.socket);
  t.match(await proxy.closed(2), { cause: 'upstream_error', reason: 'upstream_reset' });
  t.same(proxy.bugs, []);
});

t.test(
  'a silent tunnel is closed at the idle limit, and a byte budget ends one with its own reason',
  async (t) => {
    const origin = await startEcho(t);
    const policy = { allow: [{ host: 'good.test', reason: 'test', limits: { upBytes: 1000 } }] };
    const proxy = await startTestProxy(t, { policy, origin: origin.port, settings: { idleTimeoutMs: 100 } });
    const hello = buildHello({ serverName: 'good.test' });
    const idle = await proxy.connect('good.test:443', { after: hello });
    await closed(idle.socket);
    t.match(await proxy.closed(1), { cause: 'idle', reason: null, up: hello.length });
    const greedy = await proxy.connect('good.test:443', { after: hello });
    greedy.socket.write(Buffer.alloc(5000));
    await closed(greedy.socket);
    t.match(await proxy.closed(2), { cause: 'limit_bytes', reason: 'limit_bytes', up: 1000 });
  },
);

t.test(
  'a bug ends that tunnel only: counted, answered with 503 before the 200 and with a reset after it',
  async (t) => {
    const origin = await startEcho(t);
    const relay: Relay = {
      name: 'javascript',
      open() {
        throw new TypeError('a bug in the relay');
      },
      close() {},
    };
    const answers = (host: string): readonly string[] => {
      if (host === 'bug.test') throw new TypeError('a bug in the resolver');
      return [publicAddress];
    };
    const policy = allowing('bug.test', 'good.test');
    const proxy = await startTestProxy(t, {
      policy,
      origin: origin.port,
      answers,
      deps: { relay },
      expectsBugs: true,
    });
    const other = await proxy.connect('good.test:443');
    t.match(await proxy.connect('bug.test:443'), { status: 503, body: { reason: 'internal' } });
    t.match(await proxy.closed(1), { cause: 'failed', reason: 'internal' });
    const inRelay = await proxy.connect('good.test:443', { after: buildHello({ serverName: 'good.test' }) });
    await closed(inRelay.socket);
    t.match(await proxy.closed(2), { cause: 'failed', reason: 'internal' });
    t.match(proxy.bugs, [
      { stage: 'resolve', error: TypeError },
      { stage: 'relay', error: TypeError },
    ]);
    t.notOk(other.socket.destroyed, 'another tunnel lives on');
    t.equal((await proxy.connect('evil.test:443')).status, 403);
    other.socket.destroy();
  },
);

t.test('while the proxy drains nobody new gets a tunnel, whatever they ask for', async (t) => {
  const proxy = await startTestProxy(t, { policy: allowing('good.test') });
  const early = await dialProxy(proxy.port);
  early.write('CONNECT good.test:443 HTTP/1.1\r\n');
  while (proxy.deps.waiting.open === 0) await new Promise((turn) => setImmediate(turn));
  proxy.drain();
  t.match(await proxy.connect('good.test:443'), {
    status: 503,
    body: { reason: 'draining', retry: 'transient' },
  });
  proxy.deps.table.severWhere(({ state }) => state === 'head', 'draining');
  t.match(await readReply(early), { status: 503, body: { reason: 'draining' } });
  t.same([proxy.asked, proxy.decisions.map(({ reason }) => reason)], [[], ['draining', 'draining']]);
});

t.test(
  'a CONNECT relayed from inside is judged by who carries it, like any other (failure 24)',
  async (t) => {
    const proxy = await startTestProxy(t, { policy: allowing('good.test') });
    const outer = await startTestProxy(t, { policy: allowing('proxy.test'), origin: proxy.port });
    const { status, socket } = await outer.connect('proxy.test:443', {
      after: Buffer.from(connectHead('good.test:443')),
    });
    t.equal(status, 200);
    await closed(socket);
    t.match(await outer.closed(1), { reason: 'not_tls', up: 0 });
    t.equal(proxy.decisions.length, 0);
  },
);
