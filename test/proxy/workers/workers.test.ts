// Holds a proxy of several processes to what one process promises: limits, reload, drain, listing, metrics, audit.
import { once } from 'node:events';
import { createSocket } from 'node:dgram';
import { readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { loadWorkersAddon } from '../../../proxy/workers/addon.ts';
import { assertAuditLines } from '../../helpers/audit.ts';
import { closed, connectHead, dialProxy, readReply, type Reply } from '../../helpers/proxy-client.ts';
import { runSallyport } from '../../helpers/proxy-process.ts';
import { listen } from '../../helpers/tcp.ts';
import {
  closesOf,
  echoes,
  isAlive,
  nextTurn,
  signal,
  spread,
  startWorkersProxy,
  type WorkersProxy,
} from '../../helpers/workers.ts';

const addon = loadWorkersAddon();
const skip = 'problem' in addon && `the native part: ${addon.problem}`;

const openDb = 'sallyport_decisions_total{verdict="allow",reason="service_matched",mode="service"}';

/** Asks for a name that is allowed, on a connection of its own, and stays with the question. */
async function askSlowly(proxy: WorkersProxy): Promise<{ readonly reply: Promise<Reply> }> {
  const socket = await dialProxy(proxy.port);
  socket.write(connectHead('slow.example.com:443'));
  return { reply: readReply(socket) };
}

t.test('both workers serve, and metrics, listing and audit show one proxy', { skip }, async (t) => {
  const proxy = await startWorkersProxy(t);
  const tunnels = await spread(proxy, 2);
  const all = [...tunnels.values()].flat();
  t.equal(await proxy.metric(openDb), all.length);
  t.equal(await proxy.metric('sallyport_tunnels_open'), all.length);
  t.equal(await proxy.metric('sallyport_workers{state="ready"}'), 2);
  t.match(await proxy.client.get('/readyz'), { status: 200 });
  t.equal(new Set((await proxy.tunnels()).map(({ id }) => id)).size, all.length, 'no tunnel twice');
  t.equal(proxy.pids().length, 2);
  for (const socket of all) socket.end();
  await Promise.all(all.map(closed));
  proxy.child.kill('SIGTERM');
  t.equal((await proxy.ended).status, 0);
  t.same(
    closesOf(proxy).map((line) => line.event === 'close' && line.cause),
    all.map(() => 'both_ended'),
  );
});

t.test('a limit of three tunnels over two workers admits three, however they come', { skip }, async (t) => {
  const proxy = await startWorkersProxy(t, ['--max-tunnels', '3']);
  const rush = async (): Promise<Socket[]> => {
    const dialled = await Promise.all(Array.from({ length: 40 }, async () => await proxy.dial()));
    return dialled.filter((socket) => socket !== undefined);
  };
  for (let round = 0; round < 3; round += 1) {
    const admitted = await rush();
    t.equal(admitted.length, 3);
    const before = closesOf(proxy, 'both_ended').length;
    for (const socket of admitted) socket.end();
    await Promise.all(admitted.map(closed));
    // A place is free once its close is on record.
    while (closesOf(proxy, 'both_ended').length < before + 3) await proxy.tunnels();
  }
});

t.test('the rate of one principal is one over all workers', { skip }, async (t) => {
  const proxy = await startWorkersProxy(t, ['--connections-per-second', '1', '--connection-burst', '5']);
  const startedAt = performance.now();
  const replies = await Promise.all(Array.from({ length: 30 }, async () => await proxy.ask('a.test:443')));
  const refilled = Math.ceil((performance.now() - startedAt) / 1000);
  const judged = replies.filter(({ body }) => body['reason'] === 'no_rule_matched').length;
  t.ok(judged >= 5 && judged <= 5 + refilled, `${judged} of 30`);
  t.equal(replies.filter(({ status }) => status === 429).length, 30 - judged);
});

t.test('a reload severs on both workers, and answers when all have done so', { skip }, async (t) => {
  const silence = createSocket('udp4').bind(0, '127.0.0.1');
  await once(silence, 'listening');
  t.teardown(() => void silence.close());
  const dns = ['--resolver', `127.0.0.1:${silence.address().port}`, '--dns-timeout-ms', '60000'];
  const allow = '{"allow": [{"host": "slow.example.com", "reason": "test"}]}';
  const proxy = await startWorkersProxy(t, [], allow, dns);
  const waiting: Promise<Reply>[] = [];
  const resolving = async (): Promise<number[]> => {
    const asked = (await proxy.tunnels()).filter(({ state }) => state === 'resolving');
    return asked.map(({ worker }) => worker);
  };
  const workers = new Set<number>();
  while (workers.size < 2 || (await resolving()).length < waiting.length) {
    if (workers.size < 2) waiting.push((await askSlowly(proxy)).reply);
    for (const worker of await resolving()) workers.add(worker);
  }
  t.match(await proxy.client.post('/reload'), { status: 200 });
  t.match(await proxy.logged('policy reloaded'), { changed: false, severed: 0 });
  await proxy.write('[]');
  t.match(await proxy.client.post('/reload'), { status: 422 });
  t.equal((await resolving()).length, waiting.length, 'neither the same policy nor a bad one severs anybody');
  await proxy.write('{}');
  t.match(await proxy.client.post('/reload'), { status: 200 });
  t.equal((await resolving()).length, 0, 'when it is answered, all are cut');
  t.match(await proxy.logged('policy reloaded'), { changed: true, severed: waiting.length });
  const reasons = (await Promise.all(waiting)).map(({ body }) => body['reason']);
  t.same(
    reasons,
    waiting.map(() => 'policy_changed'),
  );
  const { body } = await proxy.client.get('/healthz');
  const digest: unknown = Reflect.get(Object(body), 'policy');
  const later = await Promise.all(Array.from({ length: 8 }, async () => await proxy.ask('a.test:443')));
  t.ok(
    later.every((reply) => reply.body['policy'] === digest),
    'all workers judge by it',
  );
});

t.test(
  'a second signal ends all at once, and a lifeline that is cut ends all with their close lines',
  { skip },
  async (t) => {
    for (const isCut of [false, true]) {
      const proxy = await startWorkersProxy(t);
      const tunnels = [...(await spread(proxy, 1)).values()].flat();
      const pids = proxy.pids();
      if (isCut) proxy.lifeline.destroy();
      else proxy.child.kill('SIGTERM');
      if (!isCut) await proxy.logged('draining; a second signal ends at once');
      if (!isCut) proxy.child.kill('SIGTERM');
      t.equal((await proxy.ended).status, isCut ? 0 : 143);
      while (pids.some(isAlive)) await nextTurn();
      await Promise.all(tunnels.map(closed));
      t.equal(closesOf(proxy, 'severed').length, isCut ? tunnels.length : 0);
    }
  },
);

t.test(
  'a drain takes nobody new, lets tunnels of both workers finish, and leaves nobody',
  { skip },
  async (t) => {
    const proxy = await startWorkersProxy(t);
    const tunnels = [...(await spread(proxy, 1)).values()].flat();
    const pids = proxy.pids();
    proxy.child.kill('SIGTERM');
    t.match(await proxy.logged('draining; a second signal ends at once'), { open: tunnels.length });
    while ((await proxy.dial()) !== undefined);
    t.same(
      await Promise.all(tunnels.map(echoes)),
      tunnels.map(() => true),
      'who has a tunnel may finish',
    );
    for (const socket of tunnels) socket.end();
    t.equal((await proxy.ended).status, 0);
    t.same(pids.filter(isAlive), []);
    t.equal(closesOf(proxy, 'both_ended').length, tunnels.length);
  },
);

t.test(
  'an audit that one worker cannot write shuts its door and shows; the file is one for all',
  { skip },
  async (t) => {
    const proxy = await startWorkersProxy(t);
    await spread(proxy, 1);
    const moved = join(proxy.folder, 'audit.1');
    renameSync(join(proxy.folder, 'audit.jsonl'), moved);
    proxy.child.kill('SIGHUP');
    await proxy.logged('policy reloaded');
    t.equal((await proxy.ask('a.test:443')).status, 403);
    const old = assertAuditLines(t, readFileSync(moved, 'utf8'));
    t.ok(old.every(({ event }) => event === 'decision'));
    while (proxy.audit().length < 2) await nextTurn();
    t.match(await proxy.client.get('/readyz'), { status: 200 });
    rmSync(proxy.folder, { recursive: true });
    t.match(await proxy.ask('a.test:443'), { status: 503, body: { reason: 'audit_unavailable' } });
    const page = await fetch(`http://127.0.0.1:${proxy.metricsPort}/readyz`);
    t.match(await page.text(), /"reason":"audit_unavailable"/u);
    t.equal(await proxy.metric('sallyport_audit_ok'), 0);
  },
);

t.test('what cannot be started with workers says why, and leaves nothing behind', { skip }, async (t) => {
  const folder = t.testdir({ 'policy.json': '{}' });
  await using taken = await listen();
  const policy = ['proxy', '--policy', join(folder, 'policy.json'), '--workers', '2'];
  const busy = await runSallyport([...policy, '--listen', `127.0.0.1:${taken.port}`]);
  t.match(busy, { status: 69, stderr: /EADDRINUSE.*\nhelp: /u });
  const proxy = await startWorkersProxy(t);
  const beside = await runSallyport([...policy, '--listen', `127.0.0.1:${proxy.port}`]);
  t.match(beside, { status: 69, stderr: /EADDRINUSE/u }, 'no second proxy takes half of the clients');
  for (const many of ['0', '65', 'all'])
    t.match(await runSallyport([...policy.slice(0, -1), many]), { status: 2, stderr: /help: /u });
});

t.test(
  'as root the workers are the user that was told, and write to an audit that only root may open',
  { skip: skip || (process.getuid?.() !== 0 && 'not root') },
  async (t) => {
    const proxy = await startWorkersProxy(t, ['--user', '65534:65534'], '{}', undefined, 0o755);
    for (const pid of proxy.pids()) {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      t.match(status, /^Uid:(\t65534){4}$/mu);
      t.match(status, /^CapEff:\t0+$/mu);
    }
    const [victim] = proxy.pids();
    signal(victim, 'SIGKILL');
    await proxy.logged('worker ended');
    await proxy.logged('worker ready');
    const replies = await Promise.all(Array.from({ length: 8 }, async () => await proxy.ask('a.test:443')));
    t.same(
      replies.map(({ status }) => status),
      replies.map(() => 403),
    );
    t.ok(statSync(join(proxy.folder, 'audit.jsonl')).uid === 0 && proxy.audit().length >= replies.length);
  },
);
