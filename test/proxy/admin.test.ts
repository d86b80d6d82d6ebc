// Holds the operator's sockets: who may open them, what each serves, and what makes a proxy unready.
import { once } from 'node:events';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { link, mkdtemp, rm, unlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, request as httpRequest } from 'node:http';
import { createServer as createNetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import type { Enforcement } from '../../proxy/config.ts';
import { type RunningAdmin, startAdmin } from '../../proxy/admin.ts';
import { type AdminClient, adminClient } from '../../proxy/admin-client.ts';
import { auditLineProblem } from '../helpers/audit.ts';
import { createTestParts, digest, type TestParts } from '../helpers/parts.ts';

interface Rig {
  readonly parts: TestParts;
  readonly running: RunningAdmin;
  readonly client: AdminClient;
  readonly bugs: unknown[];
}

/** A short path: a unix socket's may have 107 bytes. */
async function socketPath(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sallyport-admin-'));
  t.teardown(async () => await rm(folder, { recursive: true }));
  return join(folder, 'admin.sock');
}

async function rig(t: Test, enforcement: Enforcement = 'sidecar'): Promise<Rig> {
  const parts = createTestParts(t);
  const bugs: unknown[] = [];
  const options = {
    admin: await socketPath(t),
    metrics: '127.0.0.1:0',
    enforcement,
    onBug: (error: unknown) => bugs.push(error),
  };
  const running = await startAdmin(parts, options);
  const client = await adminClient(options.admin);
  t.teardown(async () => {
    await client.close();
    await running.close();
  });
  return { parts, running, client, bugs };
}

async function overTcp(
  running: RunningAdmin,
  path: string,
  options: { method?: string; host?: string } = {},
) {
  const { method = 'GET', host = '127.0.0.1' } = options;
  const request = httpRequest({
    ...running.metrics,
    host: running.metrics?.address,
    path,
    method,
    headers: { host },
  });
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return { status: response.statusCode, body: await text(response) };
}

t.test('the admin socket answers health, policy, tunnels and metrics', async (t) => {
  const { client } = await rig(t);
  t.match(await client.get('/healthz'), { status: 200, body: { status: 'ok', policy: digest } });
  t.match(await client.get('/readyz'), { status: 200, body: { status: 'ready', reasons: [] } });
  t.match(await client.get('/policy'), {
    status: 200,
    body: { digest, document: { version: 1 }, lastAttempt: 'ok' },
  });
  t.match(await client.get('/tunnels'), {
    status: 200,
    body: { open: 1, tunnels: [{ host: 'a.example.com' }] },
  });
  t.match(await client.get('/metrics'), { status: 200, body: /^sallyport_tunnels_open 0$/m });
  t.match(await client.get('/elsewhere'), { status: 404 });
  t.match(await client.post('/policy'), { status: 405, body: { help: 'use GET' } });
});

t.test(
  'metrics and admin are apart: the TCP socket serves metrics and health and nothing else',
  async (t) => {
    const { running, parts } = await rig(t);
    t.match(await overTcp(running, '/metrics'), { status: 200, body: /sallyport_build_info/ });
    t.match(await overTcp(running, '/healthz?probe=1'), { status: 200 });
    t.match(await overTcp(running, '/readyz'), { status: 200 });
    const refused = [
      'GET /policy',
      'GET /tunnels',
      'POST /reload',
      'PUT /fence',
      'PUT /gate',
      'POST /drops',
      'POST /metrics',
    ];
    const answers = refused.map(async (line) => {
      const [method = '', path = ''] = line.split(' ');
      return (await overTcp(running, path, { method })).status;
    });
    t.same(await Promise.all(answers), [404, 404, 404, 404, 404, 404, 405]);
    t.equal(parts.facts.reloads, 0);
  },
);

t.test('DNS rebinding: a page of the open web cannot read the metrics through a browser', async (t) => {
  const { running } = await rig(t);
  const status = async (host: string): Promise<number | undefined> =>
    (await overTcp(running, '/metrics', { host })).status;
  t.equal(await status('rebound.attacker.example'), 403);
  t.equal(await status('127.0.0.1.attacker.example:9464'), 403);
  t.equal(await status('127.0.0.1:9464'), 200);
  t.equal(await status('[::1]:9464'), 200);
  t.equal(await status('localhost:9464'), 200);
  t.equal(await status('sallyport'), 200, 'a single label, as compose files have them');
});

t.test('each thing that makes the proxy unready is named, and all at once', async (t) => {
  const { parts, client } = await rig(t);
  parts.facts.policy = { ...parts.facts.policy, lastAttempt: 'failed', lastError: 'bad rule', failures: 1 };
  parts.facts.isDraining = true;
  rmSync(join(t.testdirName, 'logs'), { recursive: true });
  await client.put('/fence', { ok: false, problems: ['chain `sb_demo` is gone'], drops: {} });
  const answer = await client.get('/readyz');
  t.match(answer, { status: 503, body: { status: 'not_ready', policy: digest } });
  t.match(answer.body, {
    reasons: [
      { reason: 'draining' },
      { reason: 'policy_reload_failed', detail: 'bad rule' },
      { reason: 'audit_unavailable', detail: 'ENOENT' },
      { reason: 'fence_not_ok', detail: 'chain `sb_demo` is gone' },
    ],
  });
  t.match(await client.get('/healthz'), { status: 200 }, 'unready is not unhealthy');
});

t.test('behind a fence the proxy is ready only once the fence was reported to hold', async (t) => {
  const { client } = await rig(t, 'fence');
  t.match(await client.get('/readyz'), {
    status: 503,
    body: { reasons: [{ reason: 'fence_not_ok', detail: /not reported/ }] },
  });
  await client.put('/fence', { ok: true, problems: [], drops: {} });
  t.match(await client.get('/readyz'), { status: 200 });
  await client.put('/fence', { ok: false, problems: ['a chain is gone'], drops: {} });
  t.match(await client.get('/readyz'), { status: 503, body: { reasons: [{ detail: 'a chain is gone' }] } });
});

t.test('reload says whether the policy was taken', async (t) => {
  const { parts, client } = await rig(t);
  t.match(await client.post('/reload'), {
    status: 200,
    body: { status: 'ok', policy: digest, unserved: ['port 1'] },
  });
  parts.facts.policy = { ...parts.facts.policy, lastAttempt: 'failed', lastError: 'bad rule' };
  t.match(await client.post('/reload'), { status: 422, body: { status: 'failed', error: 'bad rule' } });
  t.equal(parts.facts.reloads, 2);
});

t.test('a fence report is taken in its exact shape only', async (t) => {
  const { client } = await rig(t);
  const good = { ok: true, problems: [], drops: { direct: 4, dns: 1 } };
  t.match(await client.put('/fence', good), { status: 200 });
  t.match(await client.get('/metrics'), { body: /^sallyport_fence_drops_total\{class="direct"\} 4$/m });
  const bad = [
    { ...good, drops: { 'evil.example': 1 } },
    { ...good, drops: { direct: -1 } },
    { ...good, drops: { direct: '4' } },
    { ...good, drops: null },
    { ...good, extra: 1 },
    { ...good, problems: 'none' },
    { ...good, repairs: -1 },
    { problems: [], drops: {} },
    [],
    'x',
  ];
  const answers = await Promise.all(bad.map(async (body) => (await client.put('/fence', body)).status));
  t.same(
    answers,
    bad.map(() => 400),
  );
  t.match(await client.get('/metrics'), { body: /^sallyport_fence_ok 1$/m });
});

t.test('a gate report is taken in its exact shape only, and each adds to the last', async (t) => {
  const { client } = await rig(t);
  const good = { passed: 90, failed: 1, notTried: 2, time: 1_790_000_000.5 };
  for (const status of [200, 200]) t.match(await client.put('/gate', good), { status });
  const metrics = String((await client.get('/metrics')).body);
  t.match(metrics, /^sallyport_gate_probes_total\{result="passed"\} 180$/m);
  t.match(metrics, /^sallyport_gate_probes_total\{result="failed"\} 2$/m);
  t.match(metrics, /^sallyport_gate_probes_total\{result="not_tried"\} 4$/m);
  t.match(metrics, /^sallyport_gate_time_seconds 1790000000\.5$/m);
  const bad = [
    { ...good, passed: -1 },
    { ...good, failed: '1' },
    { ...good, time: 0 },
    { ...good, time: null },
    { ...good, extra: 1 },
    { passed: 1 },
    [],
    'x',
  ];
  const answers = await Promise.all(bad.map(async (body) => (await client.put('/gate', body)).status));
  t.same(
    answers,
    bad.map(() => 400),
  );
  t.equal(
    String((await client.get('/metrics')).body)
      .match(/^sallyport_gate.*$/gm)
      ?.join(),
    metrics.match(/^sallyport_gate.*$/gm)?.join(),
  );
});

t.test('drops are written to the audit in their exact shape, or none of them', async (t) => {
  const { client, parts } = await rig(t);
  const drop = {
    at: 1_790_000_000_123,
    class: 'dns',
    protocol: 'udp',
    source: '10.219.0.2',
    address: '192.0.2.1',
    port: 53,
  };
  const frame = { ...drop, class: 'layer2', protocol: 'ether-88b5', source: null, address: null, port: null };
  const body = { run: 'r1', principal: 'r1', drops: [drop, frame] };
  t.match(await client.post('/drops', body), { status: 200 });
  const hostile = { ...drop, protocol: 'a"}\n{"event":"decision"' };
  t.match(await client.post('/drops', { ...body, drops: [hostile] }), { status: 200 });
  const bad = [
    { ...body, run: 7 },
    { ...body, principal: null },
    { ...body, more: 1 },
    { ...body, drops: {} },
    { ...body, drops: Array.from({ length: 201 }, () => drop) },
    ...[
      { class: 'accepted' },
      { port: 65_536 },
      { address: 'x'.repeat(65) },
      { at: -1 },
      { at: 1e300 },
      { payload: 'secret' },
    ].map((change) => ({ ...body, drops: [drop, { ...drop, ...change }] })),
    [],
    'x',
  ];
  const answers = await Promise.all(bad.map(async (one) => (await client.post('/drops', one)).status));
  t.same(
    answers,
    bad.map(() => 400),
  );
  const lines = readFileSync(parts.auditFile, 'utf8').split('\n').slice(0, -1);
  t.same(
    lines.map((line) => auditLineProblem(line)),
    [undefined, undefined, undefined],
  );
  t.match(JSON.parse(lines[0] ?? ''), {
    event: 'drop',
    time: '2026-09-21T14:13:20.123Z',
    run: 'r1',
    class: 'dns',
  });
});

t.test('a report of a broken fence cuts every tunnel, one of a whole fence none', async (t) => {
  const { client, parts } = await rig(t);
  await client.put('/fence', { ok: true, problems: [], drops: {}, repairs: 0 });
  t.same(parts.facts.severed, []);
  await client.put('/fence', { ok: false, problems: ['gone'], drops: {}, repairs: 1 });
  t.same(parts.facts.severed, ['fence_broken']);
  t.match(await client.get('/metrics'), { body: /^sallyport_fence_repairs_total 1$/m });
});

t.test('a body of more than 64 KiB is refused without being read', async (t) => {
  const { client } = await rig(t);
  const problems = ['x'.repeat(100_000)];
  t.match(await client.put('/fence', { ok: true, problems, drops: {} }), { status: 413 });
  t.match(await client.get('/healthz'), { status: 200 });
});

t.test('an answer that fails is a 500 without details, and a bug in the log', async (t) => {
  const { parts, client, bugs } = await rig(t);
  parts.table.list = () => {
    throw new Error('secret detail');
  };
  t.same(await client.get('/tunnels'), { status: 500, body: { error: 'internal' } });
  t.match(bugs, [/secret detail/]);
});

t.test('only its owner can open the admin socket, from the first moment', async (t) => {
  const { running } = await rig(t);
  t.equal(statSync(running.admin ?? '').mode & 0o777, 0o600);
});

t.test('a socket that a killed proxy left is replaced; a living one, or another file, is not', async (t) => {
  const parts = createTestParts(t);
  const admin = await socketPath(t);
  const start = async (path: string) =>
    await startAdmin(parts, { admin: path, metrics: null, enforcement: 'sidecar', onBug: () => {} });
  await leaveDeadSocket(admin);
  t.ok(statSync(admin).isSocket(), 'a dead socket is there');
  const running = await start(admin);
  t.teardown(async () => await running.close());
  await t.rejects(start(admin), { code: 'admin_unavailable', message: /in use/ });
  const client = await adminClient(admin);
  t.match(await client.get('/healthz'), { status: 200 }, 'the living one was left alone');
  await client.close();
  const other = `${admin}.txt`;
  writeFileSync(other, 'mine');
  await t.rejects(start(other), { code: 'admin_unavailable', message: /left alone/ });
  await t.rejects(start(`/tmp/${'x'.repeat(110)}`), { message: /longer than 107/ });
  await t.rejects(start(join(other, 'admin.sock')), { code: 'admin_unavailable', help: /--admin/ });
  await t.rejects(start(`${admin}.d/admin.sock`), {
    code: 'admin_unavailable',
    message: /permission denied/,
  });
});

/** Binds, then renames away and back, so that closing cannot unlink it: as after SIGKILL. */
async function leaveDeadSocket(path: string): Promise<void> {
  const server = createNetServer().listen(path);
  await once(server, 'listening');
  await link(path, `${path}.kept`);
  server.close();
  await once(server, 'close');
  await link(`${path}.kept`, path);
  await unlink(`${path}.kept`);
}

t.test('a metrics port that is taken rejects, and leaves no admin socket open', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.teardown(() => taken.close());
  const bound = taken.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  const admin = await socketPath(t);
  await t.rejects(
    startAdmin(createTestParts(t), {
      admin,
      metrics: `127.0.0.1:${port}`,
      enforcement: 'sidecar',
      onBug: () => {},
    }),
    {
      message: /metrics cannot be served.*\nhelp: /s,
      cause: { code: 'EADDRINUSE' },
    },
  );
  t.throws(() => statSync(admin), { code: 'ENOENT' });
});

t.test('a client of a proxy that is gone rejects', async (t) => {
  const client = await adminClient(await socketPath(t), 1000);
  t.teardown(async () => await client.close());
  await t.rejects(client.get('/healthz'), { code: 'ENOENT' });
});
