// A flood may cost a proxy sockets for a moment, never the disk of its audit: what is written of it, and what is only counted.
import { spawnSync } from 'node:child_process';
import type { Socket } from 'node:net';
import t from 'tap';
import { createFloodGate } from '../../../proxy/observe/flood.ts';
import {
  type Audit,
  type CloseEvent,
  createObserve,
  type DecisionEvent,
} from '../../../proxy/observe/index.ts';
import { closeEvent, decisionEvent } from '../../helpers/events.ts';
import { createTestParts } from '../../helpers/parts.ts';
import { connectHead, dialProxy, nextChunk } from '../../helpers/proxy-client.ts';
import { allowing, startTestProxy } from '../../helpers/proxy.ts';

const turnedAway = { verdict: 'deny', reason: 'limit_rate', rule: null } as const;

t.test(
  'of clients above the connection rate ten a second are on record, each with its close; the rest are counted (failure 67)',
  async (t) => {
    const clock = { ms: 0 };
    const { metrics, audit: unused } = createTestParts(t);
    const written: (DecisionEvent | CloseEvent)[] = [];
    const keep = (...events: readonly (DecisionEvent | CloseEvent)[]): void => void written.push(...events);
    const audit: Audit = { ...unused, decided: keep, closed: keep };
    const observe = createObserve({ audit, metrics, onBug: () => {}, now: () => clock.ms });
    const flood = (from: number, to: number, principal: string): void => {
      for (let n = from; n < to; n += 1) {
        const client = { tunnel: `${principal}${n}`, principal };
        void observe.decided(decisionEvent({ ...turnedAway, ...client }));
        observe.closed(closeEvent({ ...client, verdict: 'deny', reason: 'limit_rate', cause: 'refused' }));
        observe.flush();
      }
    };
    flood(0, 5000, 'a');
    t.equal(written.length, 20, 'a pair each');
    flood(0, 5, 'b');
    t.equal(written.length, 30, 'another principal has lines of its own');
    await observe.decided(decisionEvent({ principal: 'a' }));
    await observe.decided(decisionEvent({ principal: 'a', verdict: 'deny', reason: 'rule_denied' }));
    t.equal(written.length, 32, 'what the policy said is always written');
    clock.ms += 1000;
    flood(5000, 10_000, 'a');
    t.equal(written.length, 52);
    t.match(written[32], {
      event: 'decision',
      detail: '4990 before this one were turned away and are not on record',
    });
    t.match(written[34], { event: 'decision', detail: null });
    const pairs = new Map<string, string[]>();
    for (const { tunnel, event } of written.filter(({ reason }) => reason === 'limit_rate'))
      pairs.set(tunnel, [...(pairs.get(tunnel) ?? []), event]);
    t.same(new Set([...pairs.values()].map(String)), new Set(['decision,close']), 'exactly one close each');
    t.match(await metrics.text(), /sallyport_clients_unrecorded_total\{kind="limit_rate"\} 9980\n/u);
  },
);

t.test('clients that leave without a word are on record up to a rate; whoever asked always is', async (t) => {
  const clock = { ms: 0 };
  const left: string[] = [];
  const gate = createFloodGate(
    () => clock.ms,
    (kind) => left.push(kind),
  );
  const gone = { cause: 'client_gone', verdict: null, reason: null } as const;
  const closes = (differs: Partial<CloseEvent>): boolean => gate.closes(closeEvent({ ...gone, ...differs }));
  const count = (differs: Partial<CloseEvent>, of: number): number =>
    Array.from({ length: of }, () => closes(differs)).filter(Boolean).length;
  t.equal(count({ host: '' }, 3000), 1000, 'a burst');
  t.equal(left.length, 2000);
  clock.ms += 1000;
  t.equal(count({ host: '' }, 3000), 100, 'a second later');
  clock.ms -= 500;
  t.equal(count({ host: '' }, 10), 0, 'a clock that goes back gives nothing');
  t.equal(count({ host: 'a.test' }, 3000), 3000, 'it asked');
  t.equal(count({ host: '', principal: null }, 3), 3, 'somebody else');
  t.equal(count({ host: '', verdict: 'deny', cause: 'refused' }, 3000), 3000);
});

t.test(
  'clients that keep their refusal waiting are cut beyond 256 of one principal (failure 67)',
  async (t) => {
    const proxy = await startTestProxy(t, { policy: {} });
    const { lingering, table } = proxy.deps;
    const places = Array.from({ length: 255 }, () => lingering.acquire('local'));
    t.ok(places.every(({ ok }) => ok));
    const refused = async (): Promise<{ client: Socket; peer: string }> => {
      // Half-open: it does not close when it has its answer.
      const client = await dialProxy(proxy.port);
      const peer = `127.0.0.1:${client.localPort}`;
      client.write(connectHead('a.test:443'));
      t.match(String(await nextChunk(client)), 'HTTP/1.1 403 Forbidden');
      return { client, peer };
    };
    const last = await refused();
    t.match(table.list(), [{ state: 'ending' }], 'the last one with a place takes its time');
    const late = await refused();
    t.match(await proxy.closed(1), { peer: late.peer }, 'nobody waits for one more');
    t.match(table.list(), [{ state: 'ending' }]);
    for (const { client } of [last, late]) client.destroy();
    await proxy.closed(2);
    t.equal(lingering.open, 255, 'the place is given back');
  },
);

t.test(
  'a client that resets before it is looked at has left: one close event, and nobody is called unknown',
  async (t) => {
    const proxy = await startTestProxy(t, { policy: allowing('a.test') });
    const script = `
      const { connect } = require('node:net');
      for (let n = 0; n < 20; n += 1) {
        const socket = connect(${proxy.port}, '127.0.0.1', () => {
          socket.write('CONNECT a.test:443 HTTP/1.1\\r\\n\\r\\n');
          socket.resetAndDestroy();
        });
      }`;
    // Nobody accepts while this waits, so that every one of them is gone before it is accepted.
    t.equal(spawnSync(process.execPath, ['-e', script], { stdio: 'inherit' }).status, 0);
    await proxy.closed(20);
    // Node no longer knows where such a client came from, and hands out none of its bytes; the native engine may have both.
    t.same(
      proxy.decisions.filter(({ reason }) => reason !== 'rule_matched'),
      [],
    );
    t.match(
      proxy.closes,
      proxy.closes.map(({ peer }) => ({
        cause: 'client_gone',
        reason: null,
        principal: peer === ':0' ? null : 'local',
      })),
    );
    t.equal(new Set(proxy.closes.map(({ tunnel }) => tunnel)).size, 20);
    t.equal((await proxy.connect('b.test:443')).status, 403, 'the next one is known');
  },
);
