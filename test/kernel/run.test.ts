// `sallyport run` as its user meets it, in a world of its own: what gets out, what does not, and what the command finds around it.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { asNobody } from '../helpers/as-nobody.ts';
import { needs } from '../helpers/needs.ts';
import { makeWorld, worldNeeds } from './world.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

t.test('sallyport run', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);
  const trusting = ['--workspace', world.workspace, '--env', 'CURL_CA_BUNDLE=/workspace/ca.pem'];

  t.test(
    'an allowed name answers, a denied one is refused with its reason, around the proxy there is nothing',
    async (t) => {
      const capture = await world.capture();
      const script = [
        'curl -sS https://good.test && echo " allowed"',
        'curl -sS -o /dev/null -D - https://bad.test; echo "denied $?"',
        `curl -sS --noproxy "*" --max-time 2 https://${world.address}; echo "direct $?"`,
        'getent hosts secret.bad.test; echo "getent $?"',
        'getent hosts good.test; echo "getent allowed $?"',
        `nc -u -w1 ${world.address} 53 </dev/null; echo "udp $?"`,
      ].join('\n');
      const { code, stdout, report } = await world.sallyport(
        ['--name', world.name('main'), ...trusting],
        ['sh', '-c', script],
      );
      const packets = await capture.stop();
      t.equal(code, 0);
      t.match(stdout, /origin allowed/);
      t.match(stdout, /HTTP\/1\.1 403[^]*Sallyport-Reason: no_rule_matched[^]*denied 56/);
      t.match(stdout, /direct 7\n/, 'the kernel has no route');
      t.match(
        stdout,
        /getent 2\n10\.219\.\d+\.\d+\s+good\.test\ngetent allowed 0\n/,
        'a name is answered with the address of the proxy, or not at all',
      );
      t.match(stdout, /udp 1\n/);
      t.same(
        packets,
        [],
        'no packet of the sandbox and no DNS query got outside, not even of the launch gate',
      );
      t.equal(report.enforcement, 'fence');
      t.match(report.gate, {
        result: 'passed',
        run: world.name('main'),
        occasion: 'launch',
        policy: report.policy,
      });
      t.ok((report.gate?.probes.length ?? 0) > 40, JSON.stringify(report.gate));
      const audit = readFileSync(report.audit, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      t.ok(
        audit.some((line) => line['host'] === 'good.test' && line['reason'] === 'rule_matched'),
        'the audit outlives the run',
      );
      t.ok(audit.every((line) => line['run'] === world.name('main')));
      t.same(
        report.denied,
        {
          total: 2,
          most: [
            { host: 'bad.test', reason: 'no_rule_matched', count: 1 },
            { host: 'secret.bad.test', reason: 'no_rule_matched', count: 1 },
          ],
        },
        'what was denied is told, without what the launch gate asked',
      );
    },
  );

  t.test(
    'the command is uid 1000 without capabilities, sees only itself, and its environment is cleared',
    async (t) => {
      const script = [
        'grep -E "^(Uid|Gid|Groups|CapEff|CapPrm|CapBnd|CapInh|CapAmb|NoNewPrivs):" /proc/self/status',
        'echo "ps: $(ps -e -o comm= | sort -u | tr "\\n" " ")"',
        'env | sort',
        'hostname; pwd; echo home > ~/x && echo ws > /workspace/made && echo tmp > /tmp/x && echo writable',
        'for d in / /usr /etc /run /var /dev /root; do touch $d/x 2>/dev/null && echo "WROTE $d"; done',
        'cat /etc/resolv.conf; ls /run /var; ip -o addr show dev eth0 | grep -c inet6',
      ].join('\n');
      const { stdout } = await world.sallyport([...trusting, '--env', 'GIVEN'], ['sh', '-c', script], {
        FOO: '1',
        GIVEN: 'yes',
        SECRET: 's',
      });
      t.match(stdout, /Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t\s*\n/);
      for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'])
        t.match(stdout, new RegExp(`Cap${set}:\t0{16}\n`));
      t.match(stdout, /NoNewPrivs:\t1\n/);
      t.match(stdout, /^ps: (init|ps|sh|sort|tr| )+$/m);
      t.notMatch(stdout, /^(FOO|SECRET|SPENV_)/m);
      t.match(stdout, /^GIVEN=yes$/m);
      for (const name of [
        'HTTPS_PROXY',
        'https_proxy',
        'HTTP_PROXY',
        'http_proxy',
        'ALL_PROXY',
        'all_proxy',
      ]) {
        t.match(stdout, new RegExp(`^${name}=http://10\\.219\\.\\d+\\.\\d+:3128$`, 'm'));
      }
      t.match(stdout, /^sandbox\n\/workspace\nwritable$/m);
      t.notMatch(stdout, /WROTE/);
      t.match(stdout, /\nsallyport\n/, '/run holds nothing of the host');
      t.match(stdout, /\n0\n$/, 'no IPv6 address');
      t.equal(readFileSync(join(world.workspace, 'made'), 'utf8'), 'ws\n');
    },
  );

  t.test(
    'a named service and a port of the host are reached by alias with an unmodified client; other ports are not',
    async (t) => {
      const server = world.host.start([
        process.execPath,
        '-e',
        "process.stdin.resume().on('close',()=>process.exit());require('net').createServer(s=>{s.on('error',()=>{});s.end('host service\\n')}).listen(8080,'127.0.0.1',()=>console.log('up'));require('net').createServer(s=>s.end('leak')).listen(9999,'0.0.0.0')",
      ]);
      await server.line((line) => line === 'up');
      const script =
        'nc -w3 db 5432 </dev/null; nc -w3 pinned 5433 </dev/null; nc -w3 open 5434 </dev/null; nc -w3 host.sallyport 8080 </dev/null; nc -w1 host.sallyport 9999 </dev/null; nc -z -w1 host.sallyport 22; echo "end $?"';
      const { stdout, report } = await world.sallyport(
        [
          '--service',
          `db=${world.address}:5432`,
          '--service',
          'pinned=private.test:5433@10.98.0.2',
          '--service',
          'open=private.test:5434',
          '--host-port',
          '8080',
        ],
        ['sh', '-c', script],
      );
      await server.stop();
      t.match(
        stdout,
        /^service\nservice\nhost service\nend 1\n$/,
        'a private address only where it is pinned',
      );
      t.match(report.denied, {
        total: 1,
        most: [{ host: 'private.test', reason: 'address_not_public', count: 1 }],
      });
      t.ok((report.drops['host'] ?? 0) >= 2, 'the fence counted what it dropped');
    },
  );

  t.test(
    'the exit status passes: of the command, of its signal, of a program that is not there',
    async (t) => {
      const statuses = await Promise.all([
        world.sallyport([], ['sh', '-c', 'exit 7']),
        world.sallyport([], ['sh', '-c', 'kill -KILL $$']),
        world.sallyport([], ['no-such-program']),
      ]);
      t.same(
        statuses.map(({ code }) => code),
        [7, 137, 127],
      );
    },
  );

  t.test(
    'a command that runs too long ends with 124 and a reason, even when it ignores TERM, and leaves no process',
    async (t) => {
      const { code, report } = await world.sallyport(
        ['--timeout', '0.3', '--name', world.name('slow')],
        ['sh', '-c', 'trap "" TERM; sleep 61 & sleep 62; sleep 63'],
      );
      t.equal(code, 124);
      t.equal(report.ended, 'timeout');
      t.match(report.message, /longer than 0\.3 s/);
      t.match(report.events, [{ event: 'started' }, { event: 'timeout' }]);
      t.equal((await world.host.run(['pgrep', '-f', '^sleep 6[123]'])).stdout, '');
      const killed = await world.sallyport(['--timeout', '0.3'], ['sleep', '64']);
      t.equal(killed.code, 124);
      t.equal(killed.stderr.split('\n').length, 2, 'with --json its one line is the only one');
      const failing = await world.sallyport([], ['sh', '-c', 'echo own >&2; no-such-program']);
      t.match(failing.stderr, /^own\nsh: .*not found/, "the command's own stderr is not lost");
    },
  );

  t.test('bad use is 2 and nothing is made', async (t) => {
    const bad: readonly (readonly string[])[] = [
      ['--name', '../x'],
      ['--timeout', 'soon'],
      ['--service', 'db=10.0.0.0/8:1'],
      ['--policy', '/nonexistent'],
      ['--workspace', '/'],
      ['--workspace', '/var/run'],
      ['--env', 'NOT_THERE_X'],
      ['--no-such-flag'],
      ['--env', 'https_proxy=http://elsewhere'],
      ['--metrics', '9464'],
      ['--service', 'db=postgres:5432'],
    ];
    const ends = await Promise.all(bad.map(async (options) => await world.sallyport(options, ['true'])));
    t.same(
      ends.map(({ code, report }) => [code, report.status, report.enforcement, report.help !== null]),
      bad.map(() => [2, 2, null, true]),
    );
    t.equal((await world.sallyport([], [])).code, 2, 'no command');
  });

  t.test('metrics are served to the host and not to the sandbox, whichever way it asks', async (t) => {
    const script = [
      'for url in http://10.98.0.1:9191/metrics http://127.0.0.1:9191/metrics; do curl -sS --noproxy "*" --max-time 1 $url >/dev/null 2>&1; echo "direct $?"; done',
      'P=${HTTPS_PROXY#http://}; A=${P%:*}',
      'curl -sS --noproxy "*" --max-time 1 -o /dev/null -w "proxy port %{http_code}\\n" http://$P/metrics',
      'for target in $A:9191 $A:3128 $A:22 10.98.0.1:9191 127.0.0.1:9191 [::1]:9191 localhost:9191; do curl -sS --noproxy "" --max-time 5 -o /dev/null -D - -p -x http://$P http://$target 2>/dev/null | grep -i reason; done',
      'echo probed; sleep 60',
    ].join('\n');
    const run = world.start(
      ['--metrics', '10.98.0.1:9191', '--name', world.name('metrics')],
      ['sh', '-c', script],
    );
    await run.line('probed');
    const metrics = await world.host.must(['curl', '-sS', '--noproxy', '*', 'http://10.98.0.1:9191/metrics']);
    t.match(metrics, /sallyport_fence_ok 1/);
    t.match(metrics, /sallyport_enforcement\{mode="fence"\} 1/);
    const text = run.lines.join('\n');
    t.match(text, /direct [1-9]\d*\ndirect [1-9]\d*\nproxy port (400|403|405)\n/);
    const reasons = [...text.matchAll(/Sallyport-Reason: (\w+)/gi)].map(([, reason]) => reason);
    t.same(reasons, [
      'host_is_address',
      'host_is_address',
      'host_is_address',
      'host_is_address',
      'host_is_address',
      'host_is_address',
      'request_malformed',
    ]);
    run.child.kill('SIGTERM');
    t.equal(await run.ended, 143);
    t.match(run.lines.at(-1), /^sallyport: denied \d+: .*host_is_address.*; audit: \//);
  });

  t.test(
    'an empty policy file or a list is 2 and nothing runs; `{}` runs and denies everything',
    async (t) => {
      const run = async (text: string, command: readonly string[]) => {
        const file = join(world.dir, 'odd.json');
        writeFileSync(file, text);
        return await world.sallyport(['--policy', file], command);
      };
      for (const text of ['', '[]', '{', '{"version":1,"allow":{}}']) {
        const { code, stdout, report } = await run(text, ['echo', 'RAN']);
        t.same([code, stdout, report.enforcement], [2, '', null], text);
        t.match(report.message, /odd\.json/);
      }
      const asks =
        'for n in good.test bad.test; do curl -sS -o /dev/null -w "%{http_connect} " https://$n; done';
      const { stdout, report } = await run('{}', ['sh', '-c', `${asks} 2>/dev/null`]);
      t.equal(stdout, '403 403 ');
      t.equal(report.denied.total, 2);
      t.match(report.events, [{ event: 'started', message: /\(\d+ probes passed, 5 not tried\)/ }]);
    },
  );

  t.test(
    'without root or without nft nothing runs; --env-only runs, says what it is, and tells what was denied',
    async (t) => {
      const main = join(import.meta.dirname, '../../container/main.ts');
      const node = process.execPath;
      const unprivileged = await world.host.run(asNobody([node, main, 'run', '--', 'echo', 'RAN']));
      t.equal(unprivileged.code, 69);
      t.match(unprivileged.stderr, /needs root\nhelp: .*--env-only/);
      const hidden = await world.host.run([node, main, 'run', '--', 'echo', 'RAN'], {
        env: { PATH: '/usr/bin:/bin' },
      });
      t.equal(hidden.code, 69);
      t.match(hidden.stderr, /not found on PATH: .*nft/);
      t.notMatch(unprivileged.stdout + hidden.stdout, /RAN/);
      const env = { PATH: '/usr/bin:/bin', SALLYPORT_STATE_DIR: '/tmp/sallyport-test-nobody', FOO: '1' };
      const policy = ['--policy', join(world.dir, 'policy.json'), '--hosts', join(world.dir, 'hosts')];
      const script =
        'curl -sS -o /dev/null -D - https://bad.test 2>/dev/null | grep -i reason; curl -k -sS https://good.test; env | grep -c FOO; exit 5';
      const weak = await world.host.run(
        asNobody([node, main, 'run', '--env-only', ...policy, '--', 'sh', '-c', script]),
        { env },
      );
      t.equal(weak.code, 5, weak.stderr);
      t.match(weak.stdout, /no_rule_matched\s+origin0\n/);
      t.match(weak.stderr, /policy, not physics/);
      t.match(weak.stderr, /\nsallyport: denied 1: bad\.test no_rule_matched \(1\); audit: .*\n$/);
      const clash = ['--service', 'one=a.test:5432', '--service', 'two=b.test:5432'];
      const refused = await world.host.run(
        asNobody([node, main, 'run', '--env-only', ...policy, ...clash, '--', 'echo', 'RAN']),
        { env },
      );
      t.equal(refused.code, 2);
      t.match(refused.stderr, /port 5432 is wanted twice, and --env-only has one address/);
      await world.host.run(['rm', '-rf', env.SALLYPORT_STATE_DIR]);
    },
  );
});
