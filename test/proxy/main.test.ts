// Holds `sallyport proxy` as people run it: with which policies it starts, what it opens, how it reloads and how it ends.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { adminClient } from '../../proxy/index.ts';
import { assertAuditLines } from '../helpers/audit.ts';
import { connectHead, dialProxy, readReply } from '../helpers/proxy-client.ts';
import {
  listeningAddresses,
  policyFolder,
  runSallyport,
  startProxyProcess,
} from '../helpers/proxy-process.ts';
import { listen } from '../helpers/tcp.ts';

const loopbackHex = '0100007F';
const allowA = '{"allow": [{"host": "a.example.com", "reason": "test"}]}';
const hostsA = '127.0.0.1 a.example.com\n';

async function ask(port: number, bytes: string) {
  const socket = await dialProxy(port);
  socket.write(bytes);
  return await readReply(socket);
}

const askFor = async (port: number, authority: string) =>
  (await ask(port, connectHead(authority))).body['reason'];

t.test(
  'Empty list = allow all: `[]`, an empty file, a missing file and no policy at all refuse to start',
  async (t) => {
    const { folder } = await policyFolder(t, '[]');
    writeFileSync(join(folder, 'empty.json'), '');
    writeFileSync(join(folder, 'typo.json'), '{"alow": []}');
    const files = ['policy.json', 'empty.json', 'missing.json', 'typo.json'];
    const start = async (name: string) =>
      await runSallyport(['proxy', '--listen', '127.0.0.1:0', '--policy', join(folder, name)]);
    const ends = [
      ...(await Promise.all(files.map(start))),
      await runSallyport(['proxy', '--listen', '127.0.0.1:0']),
    ];
    t.same(
      ends.map(({ status }) => status),
      [2, 2, 2, 2, 2],
    );
    t.same(
      ends.map(({ stdout }) => stdout),
      ['', '', '', '', ''],
    );
    t.same(
      ends.filter(({ stderr }) => !/^error: .*help: /su.test(stderr)),
      [],
      'each says what is wrong and what to do',
    );
    t.match(
      ends.map(({ stderr }) => stderr),
      [/not an object/, /empty/, /does not exist/, /alow/, /no policy was given/],
    );
    t.same(
      ends
        .slice(0, 4)
        .filter(({ stderr }, i) => !stderr.startsWith(`error: policy \`${join(folder, files[i] ?? '')}\` `)),
      [],
      'each names the file',
    );
  },
);

t.test('what this machine cannot do ends with 69, what was asked wrongly with 2', async (t) => {
  const { folder, policy } = await policyFolder(t, '{}');
  await using taken = await listen();
  const start = async (...args: string[]) => {
    const { status, stderr } = await runSallyport([
      'proxy',
      '--policy',
      policy,
      '--listen',
      '127.0.0.1:0',
      ...args,
    ]);
    return [status, /\nhelp: /u.test(stderr)];
  };
  const cases = [
    [[69, true], await start('--listen', `127.0.0.1:${taken.port}`)],
    [[69, true], await start('--metrics', `127.0.0.1:${taken.port}`)],
    [[69, true], await start('--audit', join(folder, 'missing', 'audit.jsonl'))],
    [[69, true], await start('--admin', policy)],
    [[2, true], await start('--listen', '0.0.0.0:0')],
    [[2, true], await start('--listen', '[::]:0')],
    [[2, true], await start('--metrics', '0.0.0.0:0')],
    [[2, true], await start('--unknown')],
    [[2, true], await start('--max-tunnels', 'many')],
  ];
  for (const [wanted, found] of cases) t.same(found, wanted);
  t.equal(readFileSync(policy, 'utf8'), '{}', 'the file that was given as a socket is untouched');
});

t.test(
  '`{}` serves, denies everything, opens only what was asked for, and keeps metrics off the proxy port',
  async (t) => {
    const { folder, policy, hosts } = await policyFolder(t, '{}', hostsA);
    const admin = join(folder, 'admin.sock');
    const more = ['--metrics', '127.0.0.1:0', '--admin', admin, '--run', 'demo'];
    const proxy = await startProxyProcess(t, [
      '--policy',
      policy,
      '--listen',
      '127.0.0.1:0',
      '--hosts',
      hosts,
      ...more,
    ]);
    const { port, metricsPort, child } = proxy;
    t.same(
      listeningAddresses(child.pid ?? 0),
      [port, metricsPort].map((one) => `${loopbackHex}:${one}`).toSorted(),
      'not an open relay: two loopback ports and nothing else',
    );
    const denied = ['a.example.com:443', 'github.com:443', 'api.anthropic.com:443'];
    t.same(
      await Promise.all(denied.map(async (name) => await askFor(port, name))),
      denied.map(() => 'no_rule_matched'),
    );
    t.equal(await askFor(port, `127.0.0.1:${metricsPort}`), 'host_is_address');
    for (const target of [
      '/metrics',
      '/healthz',
      '/readyz',
      '/tunnels',
      `http://127.0.0.1:${metricsPort}/metrics`,
    ]) {
      const { status, head, body } = await ask(
        port,
        `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`,
      );
      t.ok(status >= 400 && !head.includes('sallyport_') && body['reason'] === 'request_malformed', target);
    }
    await ask(
      port,
      connectHead('secret.example.com:443', ['Proxy-Authorization: Basic c2VjcmV0', 'X-Token: topsecret']),
    );
    await ask(port, 'GET http://b.example.com/?token=topsecret HTTP/1.1\r\nHost: b.example.com\r\n\r\n');
    const client = await adminClient(admin);
    t.match(await client.get('/healthz'), { status: 200, body: { status: 'ok' } }, 'denying is healthy');
    t.match(await client.get('/metrics'), { body: /reason="no_rule_matched",mode="connect"\} 4$/mu });
    await client.close();
    child.kill('SIGTERM');
    const { status, stdout } = await proxy.ended;
    t.equal(status, 0);
    const events = assertAuditLines(t, stdout);
    t.equal(events.filter(({ event }) => event === 'decision').length, 11, 'a decision for each client');
    t.equal(events.filter(({ event }) => event === 'close').length, 11, 'a close for each client');
    t.ok(events.every(({ run }) => run === 'demo'));
    t.notMatch(stdout, /topsecret|c2VjcmV0|Proxy-Authorization/iu, 'no header value, no query string');
    t.notOk(existsSync(admin), 'its socket is gone with it');
  },
);

t.test(
  'a bad reload keeps the last good policy and shows in metrics and readiness, until a good one comes',
  async (t) => {
    const { folder, policy, hosts, write } = await policyFolder(t, allowA, hostsA);
    const admin = join(folder, 'admin.sock');
    const proxy = await startProxyProcess(t, [
      '--policy',
      policy,
      '--listen',
      '127.0.0.1:0',
      '--hosts',
      hosts,
      '--admin',
      admin,
    ]);
    const client = await adminClient(admin);
    t.teardown(async () => await client.close());
    const before = await client.get('/healthz');
    t.equal(await askFor(proxy.port, 'a.example.com:443'), 'address_not_public', 'the name is allowed');
    await write('[]');
    proxy.child.kill('SIGHUP');
    t.match(await proxy.logged('policy not reloaded: the last good one stays in force'), {
      error: /not an object/u,
    });
    t.match(await client.get('/readyz'), {
      status: 503,
      body: { reasons: [{ reason: 'policy_reload_failed' }] },
    });
    t.match(await client.get('/metrics'), { body: /^sallyport_policy_reload_failed 1$/mu });
    t.match(await client.get('/metrics'), { body: /^sallyport_policy_reload_failures_total [1-9]/mu });
    t.same(await client.get('/healthz'), before, 'the same policy is in force');
    t.equal(await askFor(proxy.port, 'a.example.com:443'), 'address_not_public', 'old verdicts hold');
    await write('{}');
    proxy.child.kill('SIGHUP');
    await proxy.logged('policy reloaded');
    t.match(await client.get('/readyz'), { status: 200 });
    t.match(await client.get('/metrics'), { body: /^sallyport_policy_reload_failed 0$/mu });
    t.equal(await askFor(proxy.port, 'a.example.com:443'), 'no_rule_matched');
  },
);

t.test(
  'a reload is logged whatever asked for it: the operator, or the file alone, good and bad',
  async (t) => {
    const { folder, policy, write } = await policyFolder(t, '{}');
    const admin = join(folder, 'admin.sock');
    const proxy = await startProxyProcess(t, [
      '--policy',
      policy,
      '--listen',
      '127.0.0.1:0',
      '--admin',
      admin,
    ]);
    const client = await adminClient(admin);
    t.teardown(async () => await client.close());
    t.match(await client.post('/reload'), { status: 200 });
    t.match(await proxy.logged('policy reloaded'), { ok: true, changed: false });
    await write('[]');
    t.match(await proxy.logged('policy not reloaded: the last good one stays in force'), {
      error: `policy \`${policy}\` cannot be used: `,
    });
    await write(allowA);
    t.match(await proxy.logged('policy reloaded'), { ok: true, changed: true });
  },
);

t.test(
  'a port or service that only a reload has allowed is named in the log: no door is opened for it',
  async (t) => {
    const { policy, write } = await policyFolder(t, allowA);
    const places = ['--transparent', '127.0.0.1:0', '--service-listen', '127.0.0.1'];
    const proxy = await startProxyProcess(t, ['--policy', policy, '--listen', '127.0.0.1:0', ...places]);
    const service = { name: 'cache', host: 'cache.example.com', port: 6379, reason: 'r' };
    const allow = [{ host: 'b.example.com', ports: [443, 8443], reason: 'holds "ports":[7]' }];
    await write(JSON.stringify({ allow, services: [service] }));
    t.match(await proxy.logged('the policy allows what no port is open for'), {
      unserved: ['service `cache` on port 6379', 'port 443', 'port 8443'],
    });
  },
);

t.test(
  'one digest: what `policy show` prints is in force and stands in each decision (row 71)',
  async (t) => {
    const { policy, hosts } = await policyFolder(t, allowA, hostsA);
    const options = ['--policy', policy, '--listen', '127.0.0.1:0', '--hosts', hosts];
    const proxy = await startProxyProcess(t, [...options, '--metrics', '127.0.0.1:0']);
    const show = [join(import.meta.dirname, '../../policy/cli.ts'), 'show', '--json', '--policy', policy];
    const shown = JSON.parse(execFileSync(process.execPath, show, { encoding: 'utf8' })) as {
      policy: string;
    };
    const health = await fetch(`http://127.0.0.1:${proxy.metricsPort}/healthz`);
    t.same(await health.json(), { status: 'ok', policy: shown.policy });
    const refused = await ask(proxy.port, connectHead('b.example.com:443'));
    t.equal(refused.body['policy'], shown.policy);
    proxy.child.kill('SIGTERM');
    const events = assertAuditLines(t, (await proxy.ended).stdout);
    t.same(
      events.map(({ event, policy: digest }) => [event, digest]),
      [
        ['decision', shown.policy],
        ['close', shown.policy],
      ],
    );
  },
);

t.test('a misspelt environment variable is warned of with what was meant, and is no error', async (t) => {
  const { policy } = await policyFolder(t, '{}');
  const env = { SALLYPORT_LISTNE: '1', SALLYPORT_STATE_DIR: '/x', SALLYPORT_MAX_TUNNELS: '5', PATH: '/x' };
  const shown = await runSallyport(['config', 'show', '--policy', policy], env);
  t.equal(shown.status, 0);
  t.match(shown.stderr, /^warning: `SALLYPORT_LISTNE`: .*\nhelp: did you mean SALLYPORT_LISTEN\? .*\n$/u);
  const listenOnNothing = ['proxy', '--policy', policy, '--listen', '192.0.2.1:1'];
  const ran = await runSallyport(listenOnNothing, { SALLYPORT_LISTNE: '1' });
  t.match(ran, {
    status: 69,
    stderr: /"variable":"SALLYPORT_LISTNE","help":"did you mean SALLYPORT_LISTEN\?/u,
  });
});

t.test('audit sink gone: every client is refused with audit_unavailable until it is back', async (t) => {
  const { folder, policy, hosts } = await policyFolder(t, '{}', hostsA);
  const logs = join(folder, 'logs');
  mkdirSync(logs);
  const file = join(logs, 'audit.jsonl');
  const args = [
    '--policy',
    policy,
    '--listen',
    '127.0.0.1:0',
    '--hosts',
    hosts,
    '--audit',
    file,
    '--metrics',
    '127.0.0.1:0',
  ];
  const { port, metricsPort } = await startProxyProcess(t, args);
  rmSync(logs, { recursive: true });
  const refused = await ask(port, connectHead('a.example.com:443'));
  t.match(refused, { status: 503, body: { reason: 'audit_unavailable', retry: 'transient' } });
  const ready = async () => (await fetch(`http://127.0.0.1:${metricsPort}/readyz`)).status;
  t.equal(await ready(), 503);
  mkdirSync(logs);
  t.equal(await ready(), 200);
  t.equal(await askFor(port, 'a.example.com:443'), 'no_rule_matched');
  const events = assertAuditLines(t, readFileSync(file, 'utf8'));
  t.match(
    events[0],
    { event: 'close', cause: 'failed', reason: 'audit_unavailable' },
    'the refused one is told of, late',
  );
});

t.test('SIGTERM drains: open tunnels finish, nobody new comes in, and the end is 0', async (t) => {
  const { policy } = await policyFolder(t, '{}');
  await using origin = await listen();
  const services = ['--service-listen', '127.0.0.1', '--service', `db=127.0.0.1:${origin.port}`];
  t.match(
    await runSallyport(['proxy', '--policy', policy, '--listen', '127.0.0.1:0', ...services]),
    { status: 69 },
    'its port is taken',
  );
  await using away = await listen('127.0.0.2');
  const args = ['--policy', policy, '--listen', '127.0.0.1:0', '--service-listen', '127.0.0.1'];
  const proxy = await startProxyProcess(t, [...args, '--service', `db=127.0.0.2:${away.port}`]);
  const client = connect({ host: '127.0.0.1', port: away.port });
  client.write('hello');
  const upstream = await away.accept();
  t.equal(String((await once(upstream.resume(), 'data'))[0]), 'hello');
  proxy.child.kill('SIGTERM');
  await proxy.logged('draining; a second signal ends at once');
  await t.rejects(dialProxy(proxy.port), { code: 'ECONNREFUSED' });
  upstream.end('goodbye');
  t.equal(String((await once(client, 'data'))[0]), 'goodbye');
  client.end();
  const { status, stdout } = await proxy.ended;
  t.equal(status, 0);
  t.match(assertAuditLines(t, stdout).at(-1), { event: 'close', cause: 'both_ended', up: 5, down: 7 });
});

t.test('a second signal ends a drain at once', async (t) => {
  const { policy } = await policyFolder(t, '{}');
  await using away = await listen('127.0.0.2');
  const args = ['--policy', policy, '--listen', '127.0.0.1:0', '--service-listen', '127.0.0.1'];
  const proxy = await startProxyProcess(t, [...args, '--service', `db=127.0.0.2:${away.port}`]);
  const client = connect({ host: '127.0.0.1', port: away.port }).on('error', () => {});
  client.write('hello');
  await away.accept();
  proxy.child.kill('SIGINT');
  await proxy.logged('draining; a second signal ends at once');
  proxy.child.kill('SIGTERM');
  t.equal((await proxy.ended).status, 143);
});

t.test('lifeline: when the parent is gone the proxy ends, whatever its tunnels do', async (t) => {
  const { policy } = await policyFolder(t, '{}');
  await using away = await listen('127.0.0.2');
  const args = ['--policy', policy, '--listen', '127.0.0.1:0', '--service-listen', '127.0.0.1'];
  const proxy = await startProxyProcess(t, [...args, '--service', `db=127.0.0.2:${away.port}`]);
  const client = connect({ host: '127.0.0.1', port: away.port }).on('error', () => {});
  client.write('hello');
  await away.accept();
  proxy.lifeline.destroy();
  const { status, stdout } = await proxy.ended;
  t.equal(status, 0);
  t.match(assertAuditLines(t, stdout).at(-1), { event: 'close', cause: 'severed' });
});

t.test('config show names the source of each setting, and `proxy --help` has examples', async (t) => {
  const { folder } = await policyFolder(t, '{}');
  const file = join(folder, 'sidecar.json');
  writeFileSync(file, '{"maxTunnels": 33, "metrics": "127.0.0.1:9464"}');
  const env = { SALLYPORT_METRICS: '127.0.0.1:9465' };
  const shown = await runSallyport(
    ['config', 'show', '--origin', '--config', file, '--run', 'demo', '--no-hints'],
    env,
  );
  t.equal(shown.status, 0);
  t.match(shown.stdout, /^maxTunnels +33 {2}\(file .*"maxTunnels"\)$/mu);
  t.match(shown.stdout, /^metrics +127\.0\.0\.1:9465 {2}\(environment SALLYPORT_METRICS\)$/mu);
  t.match(shown.stdout, /^run +demo {2}\(flag --run\)$/mu);
  t.match(shown.stdout, /^hints +false {2}\(flag --no-hints\)$/mu);
  t.match(shown.stdout, /^headBytes +16384 {2}\(default\)$/mu);
  t.match(await runSallyport(['config', 'show', '--run', '..']), {
    status: 2,
    stderr: /^error: flag --run.*\nhelp: /su,
  });
  t.match(await runSallyport(['proxy', '--help']), {
    status: 0,
    stdout: /Examples:\n {2}sallyport proxy --policy/u,
  });
});
