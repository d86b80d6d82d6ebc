// How runs end and what they leave: a killed runner, a killed proxy, a broken fence, two runs at once, packets at the edges of a run.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../helpers/needs.ts';
import { makeWorld, policy, worldNeeds, type World } from './world.ts';

/** Everything a run could leave, by kind. */
async function remains(world: World): Promise<Record<string, readonly string[]>> {
  const lines = (text: string): readonly string[] => text.split('\n').filter(Boolean);
  const tables = await world.host.must(['nft', 'list', 'tables']);
  const links = await world.host.must(['ip', '-o', 'link', 'show', 'type', 'veth']);
  const names = await world.host.must(['ip', 'netns', 'list']);
  const mounts = await world.host.must(['findmnt', '-rn', '-o', 'TARGET']);
  return {
    tables: lines(tables),
    links: lines(links).filter((line) => / sp-/.test(line)),
    routes: lines(await world.host.must(['ip', 'route', 'show', 'type', 'blackhole'])),
    netns: lines(names).filter((line) => line.startsWith('sallyport-') && line.includes(world.name(''))),
    mounts: lines(mounts).filter(
      (line) =>
        line.startsWith(world.state) || (line.includes('/sallyport-') && line.includes(world.name(''))),
    ),
    runs: readdirSync(join(world.state, 'runs')),
    slots: readdirSync(join(world.state, 'slots')),
    processes: lines((await world.host.run(['pgrep', '-f', `sleep 7177|${world.state}`])).stdout),
  };
}

const nothing = {
  tables: [],
  links: [],
  routes: [],
  netns: [],
  mounts: [],
  runs: [],
  slots: [],
  processes: [],
};

// A slow machine is no failure.
t.setTimeout(300_000);

t.test('the life of a run', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);

  t.test('nothing is left after a run, whether it ends by itself or by a signal', async (t) => {
    await world.sallyport(['--name', world.name('one')], ['true']);
    t.same(await remains(world), nothing);
    for (const [signal, status] of [
      ['SIGTERM', 143],
      ['SIGINT', 130],
    ] as const) {
      const run = world.start(['--name', world.name('two')], ['sh', '-c', 'echo up; sleep 7177']);
      await run.line('up');
      run.child.kill(signal);
      t.equal(await run.ended, status);
      t.same(await remains(world), nothing, signal);
    }
    const early = world.start(['--name', world.name('three')], ['echo', 'RAN']);
    early.child.kill('SIGTERM');
    t.ok([143, null].includes(await early.ended), 'a signal before the command');
  });

  t.test(
    'kill -9 of the runner ends the sandbox and the proxy at once, and the next run gives back what it left',
    async (t) => {
      const run = world.start(['--name', world.name('killed')], ['sh', '-c', 'echo up; sleep 7177']);
      await run.line('up');
      const held = await remains(world);
      t.match(held, {
        tables: [`table inet sallyport_${world.name('killed')}`],
        runs: [world.name('killed')],
        slots: ['0'],
      });
      run.child.kill('SIGKILL');
      await run.ended;
      await until(async () => (await remains(world))['processes']?.length === 0);
      t.match(
        await remains(world),
        {
          processes: [],
          runs: [world.name('killed')],
          tables: [`table inet sallyport_${world.name('killed')}`],
        },
        'only things are left',
      );
      const { code, report } = await world.sallyport(['--name', world.name('next')], ['true']);
      t.equal(code, 0);
      t.match(report.events, [{ event: 'swept', message: new RegExp(world.name('killed')) }]);
      t.same(await remains(world), nothing);
    },
  );

  t.test('a sweep leaves live runs alone, and its name stays taken', async (t) => {
    const run = world.start(['--name', world.name('live')], ['sh', '-c', 'echo up; sleep 7177']);
    await run.line('up');
    t.equal((await world.sallyport(['--name', world.name('live')], ['true'])).code, 2);
    const swept = await world.host.run(
      [process.execPath, join(import.meta.dirname, '../../container/main.ts'), 'reclaim', '--json'],
      { env: { ...process.env, SALLYPORT_STATE_DIR: world.state } },
    );
    t.same(JSON.parse(swept.stdout), { reclaimed: [], elsewhere: [], failed: [] });
    t.match(await remains(world), {
      runs: [world.name('live')],
      tables: [`table inet sallyport_${world.name('live')}`],
    });
    run.child.kill('SIGTERM');
    await run.ended;
  });

  t.test('with the proxy dead the sandbox reaches nothing at all, and the runner says so', async (t) => {
    const script = `echo up; read line </workspace/go; curl -sS --max-time 2 https://good.test; echo "proxy $?"; curl -sS --noproxy "*" --max-time 2 https://${world.address}; echo "direct $?"`;
    await world.host.must(['mkfifo', '-m', '666', join(world.workspace, 'go')]);
    const run = world.start(
      ['--name', world.name('proxy'), '--workspace', world.workspace],
      ['sh', '-c', script],
    );
    await run.line('up');
    await world.host.must([
      'pkill',
      '-KILL',
      '-f',
      `proxy --config ${join(world.state, 'runs', world.name('proxy'))}`,
    ]);
    t.notMatch(await run.line('the proxy is gone'), /[{}]/, 'not with its log');
    writeFileSync(join(world.workspace, 'go'), '\n');
    await run.ended;
    t.match(run.lines.join('\n'), /proxy 7\n/, 'refused at once, not left hanging');
    t.match(run.lines.join('\n'), /direct 7/);
  });

  t.test(
    'a deleted chain is put back, cuts the open tunnels, and shows in metrics and on stderr',
    async (t) => {
      const metrics = ['--metrics', '10.98.0.1:9192'];
      const script =
        'P=${HTTPS_PROXY#http://}; { printf "CONNECT good.test:443 HTTP/1.1\\r\\nHost: good.test:443\\r\\n\\r\\n"; sleep 7177; } | nc ${P%:*} 3128; echo cut; sleep 7177';
      const run = world.start(['--name', world.name('ready'), ...metrics], ['sh', '-c', script]);
      await run.line('200 Connection established');
      const ask = async (path: string): Promise<string> =>
        await world.host.must(['curl', '-sS', '--noproxy', '*', `http://10.98.0.1:9192/${path}`]);
      t.match(await ask('readyz'), /"ready"/);
      await world.host.must(['nft', 'flush', 'chain', 'inet', `sallyport_${world.name('ready')}`, 'forward']);
      t.match(await run.line('the fence is not as planned'), /it was put back in \d+ ms/);
      await run.line('cut');
      await until(async () => (await ask('metrics')).includes('sallyport_fence_repairs_total 1'));
      t.match(await ask('metrics'), /^sallyport_fence_breaks_total 1$/m);
      t.match(await ask('readyz'), /"ready"/);
      t.match(
        await world.host.must(['nft', 'list', 'table', 'inet', `sallyport_${world.name('ready')}`]),
        /iifname "sp-.*drop_forward/,
      );
      run.child.kill('SIGTERM');
      await run.ended;
      t.same(await remains(world), nothing);
    },
  );

  t.test('two runs at once cannot reach each other, in either direction', async (t) => {
    const script =
      'echo "address $(hostname -I 2>/dev/null || ip -4 -o addr show dev eth0)"; nc -l -p 7777 >/dev/null & sleep 7177';
    const runs = ['first', 'second']
      .map((word) => world.name(word))
      .map((name) => world.start(['--name', name], ['sh', '-c', script]));
    const [first = '', second = ''] = await Promise.all(
      runs.map(async (run) => /10\.219\.\d+\.\d+/.exec(await run.line('address '))?.[0] ?? ''),
    );
    t.not(first, second);
    const probe = async (from: string, to: string): Promise<number | null> =>
      (
        await world.host.run([
          'ip',
          'netns',
          'exec',
          `sallyport-${from}`,
          'sh',
          '-c',
          `ip route add default via $(ip -4 -o addr show dev eth0 | grep -o "10.219[0-9.]*" | head -1 | awk -F. '{print $1"."$2"."$3"."$4-1}'); nc -z -w1 ${to} 7777 || ping -c1 -W1 ${to}`,
        ])
      ).code;
    t.not(await probe(world.name('first'), second), 0, 'even with a route that root added inside');
    t.not(await probe(world.name('second'), first), 0);
    t.ok(((await world.drops(world.name('first'))).get('lateral') ?? 0) > 0, 'the fence met it');
    for (const run of runs) run.child.kill('SIGTERM');
    await Promise.all(runs.map(async (run) => await run.ended));
  });

  t.test(
    'from before its first to after its last moment no packet of a flooding sandbox gets outside',
    async (t) => {
      const outside = await world.capture();
      const atHost = await world.capture('host');
      // As root inside, with a route from the instant the link is up: worse than any command could. The gate notices and refuses.
      const flood = `A=; until A=$(ip -4 -o addr show dev eth0 2>/dev/null | grep -o "10[.]219[.][0-9.]*" | head -1) && [ -n "$A" ]; do :; done
      until ip route add ${world.address} via "\${A%.*}.$((\${A##*.} - 1))" 2>/dev/null; do :; done; echo routed; exec ping -q -f ${world.address}`;
      const enter = (name: string): string =>
        `until nsenter --net=/run/netns/sallyport-${name} true 2>/dev/null; do :; done; exec nsenter --net=/run/netns/sallyport-${name} sh -c "$1"`;
      const early = world.host.start(['sh', '-c', enter(world.name('early')), 'sh', flood]);
      const refused = await world.sallyport(['--name', world.name('early')], ['true']);
      t.equal(refused.code, 69);
      t.match(refused.report.message, new RegExp(`routes left: ${world.address}`));
      await early.stop();

      const run = world.start(['--name', world.name('late')], ['sh', '-c', 'echo up; sleep 7177']);
      await run.line('up');
      const late = world.host.start(['sh', '-c', enter(world.name('late')), 'sh', flood]);
      await until(async () => ((await world.drops(world.name('late'))).get('icmp') ?? 0) > 100);
      run.child.kill('SIGTERM');
      await run.ended;
      await late.stop();
      t.ok(
        (await atHost.stop()).filter((line) => line.includes(`> ${world.address}: ICMP echo request`))
          .length > 100,
        'they were really sent',
      );
      t.same(await outside.stop(), []);
      t.same(await remains(world), nothing);
    },
  );

  t.test(
    'SIGHUP brings a narrowed policy into force in the running proxy; a broken one changes nothing, and one that brings ports says that they are not there',
    async () => {
      const file = join(world.dir, 'live.json');
      writeFileSync(file, JSON.stringify(policy));
      const run = world.start(
        ['--name', world.name('hup'), '--policy', file],
        [
          'sh',
          '-c',
          'echo up; while sleep 0.1; do curl -k -sS -o /dev/null -w "%{http_connect} %{http_code}\\n" https://good.test 2>/dev/null; done',
        ],
      );
      await run.line('200 200');
      writeFileSync(file, '{"version": 1, "allow": [{}]}');
      run.child.kill('SIGHUP');
      await run.line('the policy stays as it was');
      writeFileSync(file, JSON.stringify({ ...policy, allow: [] }));
      run.child.kill('SIGHUP');
      await run.line('is in force');
      await run.line('403 000');
      const allow = [{ id: 'allow/late', host: 'late.test', ports: [9443], reason: 'came later' }];
      const services = [{ id: 'service/late', name: 'late', host: 'late.test', port: 6379, reason: 'too' }];
      writeFileSync(file, JSON.stringify({ ...policy, allow, services }));
      run.child.kill('SIGHUP');
      await run.line('not served before the next start: service `late` on port 6379, port 9443');
      run.child.kill('SIGTERM');
      await run.ended;
    },
  );
});

/** Asks again until it is so; gives up after 10 s. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not come true within 10 s');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
