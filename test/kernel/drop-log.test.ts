// `sallyport run --log-drops`: what the kernel drops is told in the audit, so many a second; and whatever becomes of the listener, the fence stands.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { auditLineProblem } from '../helpers/audit.ts';
import { needs } from '../helpers/needs.ts';
import type { Output } from '../helpers/netns.ts';
import { makeWorld, worldNeeds, type World } from './world.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

const hostile = 300;
const perSecond = 10;

interface Line {
  readonly event: string;
  readonly class: string;
  readonly run: string;
  readonly principal: string;
}

t.test('dropped packets in the audit', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);
  const name = world.name('told');
  const drops = (): readonly Line[] =>
    readFileSync(join(world.state, 'audit', `${name}.jsonl`), 'utf8')
      .split('\n')
      .filter((line) => line.includes('"event":"drop"'))
      .map((line) => {
        t.equal(auditLineProblem(line), undefined);
        return JSON.parse(line) as Line;
      });
  const counted = async (): Promise<number> => (await world.drops(name)).get('dns') ?? 0;

  const run = world.start(['--name', name, '--log-drops'], ['sh', '-c', 'echo up; sleep 7181']);
  await run.line('up');
  t.same(drops(), [], 'the packets of the launch gate are not told');
  const before = await counted();
  const started = performance.now();
  await flood(world, name);
  const seconds = Math.ceil((performance.now() - started) / 1000);
  while (drops().length < perSecond) await delay(20);
  t.equal(await counted(), before + hostile, 'the counter has all of them');
  const told = drops();
  t.ok(told.length <= perSecond * (1 + seconds), `${told.length} of ${hostile} in ${seconds} s`);
  for (const line of told)
    t.match(line, {
      event: 'drop',
      run: name,
      principal: name,
      class: 'dns',
      protocol: 'udp',
      source: /^10\.219\./,
      address: '192.0.2.1',
      port: 53,
    });
  t.notMatch(readFileSync(join(world.state, 'audit', `${name}.jsonl`), 'utf8'), /secret/, 'no payload');

  const frame = ['perl', join(import.meta.dirname, '../nft/world/frame.pl'), '88b5', 'broadcast', '00'];
  await world.host.must(['ip', 'netns', 'exec', `sallyport-${name}`, ...frame]);
  while (drops().every((line) => line.class !== 'layer2')) await delay(20);
  t.match(drops().at(-1), { class: 'layer2', protocol: 'ether-88b5', address: null, port: null });

  const capture = await world.capture();
  await world.host.must(['kill', '-KILL', (await listeners(world)).stdout.trim()]);
  t.match(await run.line('nobody listens'), /they are dropped and counted as before/);
  const midway = await counted();
  await flood(world, name);
  t.equal(await counted(), midway + hostile, 'without a listener all are dropped and counted');
  t.same(await capture.stop(), [], 'and none gets out');
  t.equal(run.child.exitCode, null, 'the run goes on');
  const known = drops().length;
  while (drops().length === known) {
    await flood(world, name);
    await delay(200);
  }
  t.pass('a new listener takes its place');
  run.child.kill('SIGTERM');
  await run.ended;
  t.equal((await listeners(world)).stdout, '', 'and ends with the run');

  const killed = world.start(
    ['--name', world.name('killed'), '--log-drops'],
    ['sh', '-c', 'echo up; sleep 7181'],
  );
  await killed.line('up');
  t.match((await listeners(world)).stdout, /^\d+\n$/);
  killed.child.kill('SIGKILL');
  await killed.ended;
  while ((await listeners(world)).stdout !== '') await delay(20);
  t.pass('a runner that is killed leaves no listener');

  const none = await world.sallyport(['--name', world.name('quiet')], ['true']);
  t.equal(none.code, 0);
  t.notMatch(readFileSync(none.report.audit, 'utf8'), /"event":"drop"/, 'off unless it is asked for');
  t.equal(
    (await world.sallyport(['--log-drops', '--env-only'], ['true'])).code,
    2,
    'without a fence there are no drops',
  );
});

/** The listeners of this world's first slot. */
async function listeners(world: World): Promise<Output> {
  const pids = ['ip', 'netns', 'pids', world.host.name];
  return await world.host.run([
    'sh',
    '-c',
    `${pids.join(' ')} | while read -r pid; do tr "\\0" " " </proc/$pid/cmdline 2>/dev/null | grep -q "^tcpdump -i nflog:" && echo "$pid"; done; true`,
  ]);
}

/** As root inside, over a route that is added there. */
async function flood(world: World, name: string): Promise<void> {
  const script =
    'ip route replace 192.0.2.1 via $(ip -4 -o addr show dev eth0 | grep -o "10.219[0-9.]*" | head -1 | awk -F. \'{print $1"."$2"."$3"."$4-1}\'); exec perl -MIO::Socket::INET -e \'my $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "192.0.2.1", PeerPort => 53); $s->send("secret") for 1..$ARGV[0]\' "$1"';
  await world.host.must([
    'ip',
    'netns',
    'exec',
    `sallyport-${name}`,
    'sh',
    '-c',
    script,
    'sh',
    String(hostile),
  ]);
}
