// `sallyport probe` on a live run: it says what the boundary is now, disturbs nothing inside, leaves nothing, and its record is whole.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Ajv } from 'ajv';
import t from 'tap';
import schema from '../../container/gate/record.schema.json' with { type: 'json' };
import { digestOf, type GateRecord } from '../../container/gate/record.ts';
import { needs } from '../helpers/needs.ts';
import type { Output } from '../helpers/netns.ts';
import { makeWorld, worldNeeds, type World } from './world.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

const fits = new Ajv({ allErrors: true, strict: true }).compile<GateRecord>(schema);

function readRecord(text: string): GateRecord {
  const value: unknown = JSON.parse(text);
  if (fits(value) && value.digest === digestOf(value)) return value;
  throw new Error(`this is not a record: ${JSON.stringify(fits.errors)} ${text}`);
}

const probe = async (world: World, ...flags: readonly string[]): Promise<Output> =>
  await world.host.run(
    [process.execPath, join(import.meta.dirname, '../../container/main.ts'), 'probe', ...flags],
    {
      env: { ...process.env, SALLYPORT_STATE_DIR: world.state },
      timeoutMs: 60_000,
    },
  );

/** Everything a probe changes for its time, on both ends. */
async function network(world: World, run: string): Promise<string> {
  const inside = ['ip', 'netns', 'exec', `sallyport-${run}`];
  const asked = [
    ['ip', '-o', 'addr'],
    ['ip', 'route', 'show', 'table', 'all'],
    ['ip', '-6', 'route', 'show', 'table', 'all'],
    ['nft', 'list', 'tables'],
    ['sh', '-c', 'grep . /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/disable_ipv6'],
  ];
  const texts = asked.flatMap((argv) => [world.host.must(argv), world.host.must([...inside, ...argv])]);
  return (await Promise.all(texts)).join('\n');
}

t.test('sallyport probe', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);
  const [name, other] = [world.name('live'), world.name('other')];

  t.test('without a run it is 2, and says so', async (t) => {
    t.match(await probe(world), { code: 2, stdout: '', stderr: /0 runs are alive\nhelp: no run is alive/ });
    t.match(await probe(world, '--run', '../x'), { code: 2, stderr: /is not a name/ });
  });

  await t.test('a whole boundary passes, nothing inside notices, and nothing stays of it', async (t) => {
    const script =
      'echo up; while sleep 0.05; do getent ahostsv4 good.test >/dev/null || echo "NO NAME"; curl -k -sS -o /dev/null -w "%{http_code}\\n" https://good.test 2>&1; ip route | grep -v 10.219 | sed "s/^/ROUTE /"; done';
    const run = world.start(['--name', name, '--metrics', '10.98.0.1:9193'], ['sh', '-c', script]);
    await run.line('200');
    const launch = readRecord(readFileSync(join(world.state, 'audit', `${name}.gate.json`), 'utf8'));
    t.match(launch, { result: 'passed', occasion: 'launch', run: name });
    const before = await network(world, name);
    const capture = await world.capture();
    const { code, stdout, stderr } = await probe(world, '--json');
    t.equal(code, 0, stderr + stdout);
    const record = readRecord(stdout);
    t.match(record, { result: 'passed', occasion: 'probe', run: name, policy: launch.policy });
    t.equal(record.ruleset, launch.ruleset, 'the same rules');
    t.same(
      record.probes.map(({ id }) => id),
      launch.probes.map(({ id }) => id),
      'the same probes',
    );
    t.same(await capture.stop(), [], 'no packet got outside');
    t.equal(await network(world, name), before);
    t.notOk(run.lines.includes('NO NAME'), 'DNS of the sandbox goes on');
    const kept = (file: string): GateRecord => readRecord(readFileSync(join(world.state, file), 'utf8'));
    t.same(kept(`audit/${name}.gate.json`), record);
    t.same(kept(`runs/${name}/gate.json`), record);
    const metrics = async (): Promise<string> =>
      await world.host.must(['curl', '-sS', '--noproxy', '*', 'http://10.98.0.1:9193/metrics']);
    const text = await metrics();
    const passed = [launch, record].flatMap(({ probes }) =>
      probes.filter(({ verdict }) => verdict === 'pass'),
    );
    t.match(text, new RegExp(`^sallyport_gate_probes_total\\{result="passed"\\} ${passed.length}$`, 'm'));
    t.match(text, /^sallyport_gate_probes_total\{result="failed"\} 0$/m);
    // The fence's watch looks every second.
    const layer2 = /^sallyport_fence_drops_total\{class="layer2"\} (8|9|1\d)$/m;
    while (!layer2.test(await metrics())) await delay(50);
    t.notOk(
      run.lines.some((line) => !/^(200|up|sallyport: .*)$/.test(line) && !line.startsWith('ROUTE 198.1')),
      [...new Set(run.lines)].join('\n'),
    );

    const second = world.start(['--name', other], ['sh', '-c', 'echo up; sleep 7177']);
    await second.line('up');
    t.match(await probe(world), { code: 2, stderr: new RegExp(`2 runs are alive\nhelp: .*${name}`) });
    const both = await Promise.all([name, other].map(async (one) => await probe(world, '--run', one)));
    t.same(
      both.map((one) => one.code),
      [0, 0],
      both.map((one) => one.stdout + one.stderr).join('\n'),
    );
    second.child.kill('SIGTERM');
    await second.ended;

    // The runner's own watch would put the fence back before the probe has looked.
    run.child.kill('SIGSTOP');
    const table = ['inet', `sallyport_${name}`];
    await world.host.must(['nft', 'insert', 'rule', ...table, 'prerouting', 'udp', 'dport', '53', 'accept']);
    const broken = await probe(world);
    t.equal(broken.code, 1, broken.stderr);
    t.match(broken.stdout, /FAIL {2}DNS over UDP .*passed the fence/);
    t.match(broken.stdout, /\d+ probes passed, \d+ FAILED, \d+ not tried; record [0-9a-f]{12} in /);
    t.match(kept(`audit/${name}.gate.json`), { result: 'failed' });
    run.child.kill('SIGCONT');
    await run.line('it was put back');
    t.match(await probe(world), { code: 0 });
    const around =
      'add table ip other; add chain ip other c { type filter hook input priority 0; }; add rule ip other c tcp dport 3128 tcp dport set 7070';
    await world.host.must(['nft', around]);
    await run.line('the link of the sandbox is down');
    t.match(await probe(world), { code: 69, stderr: /is closed: its link is down/ });
    run.child.kill('SIGTERM');
    await run.ended;
    t.match(kept(`audit/${name}.gate.json`), { result: 'passed' }, 'the record outlives the run');
  });
});
