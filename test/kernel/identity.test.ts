// Who is who is settled by the kernel: interface and source address. Runs that share an address one after the other, and runs side by side, with
// real connection tracking on. The proxy's own refusal of strangers is in test/proxy/listeners/connect.test.ts.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { slotAt } from '../../container/slot.ts';
import { needs } from '../helpers/needs.ts';
import { makeWorld, policy, worldNeeds, type StartedRun, type World } from './world.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

t.test('kernel-bound identity', { skip: needs(t, [...worldNeeds, 'conntrack']) }, async (t) => {
  const world = await makeWorld(t);
  const [goodOnly, alsoOnly] = ['good.test', 'also.test'].map((host) => policyFor(world, host));
  await world.host.must([
    'nft',
    'add table ip tracking; add chain ip tracking c { type filter hook prerouting priority 0; }; add rule ip tracking c ct state new counter',
  ]);

  await t.test('the next run at an address meets nothing of the one before', async (t) => {
    const first = start(world, 'first', goodOnly, tunnel('good.test'));
    await first.line('200 Connection established');
    const [address = '', proxy = ''] = placeOf(world, 'first');
    const tracked = await flows(world);
    t.match(
      tracked,
      new RegExp(`dst=${world.address} .*dport=443`),
      "control: the proxy's own flow is tracked",
    );
    t.notMatch(tracked, new RegExp(address), 'the flow of the sandbox is not: there is nothing to flush');
    await end(first);
    t.notMatch(await world.host.must(['nft', 'list', 'ruleset']), new RegExp(world.name('first')));

    // What another program, or a fence of an older version, may have left: a flow of that address that leads elsewhere.
    const entry = [
      '-s',
      address,
      '-d',
      proxy,
      '--sport',
      '40000',
      '--dport',
      '3128',
      '--dst-nat',
      world.address,
    ];
    const state = ['-p', 'tcp', '--state', 'ESTABLISHED', '-u', 'ASSURED', '-t', '600'];
    await world.host.must(['conntrack', '-I', ...state, ...entry]);
    t.match(await flows(world), new RegExp(`src=${address} dst=${proxy}`), 'control: it is there');
    const capture = await world.capture();
    const second = start(
      world,
      'second',
      alsoOnly,
      `${tunnel('also.test', '-p 40000')}; ${tunnel('good.test', '-p 40000')}; echo over`,
    );
    await second.line('200 Connection established');
    t.same(placeOf(world, 'second'), [address, proxy], 'the address is used again');
    t.same(await capture.stop(), [], 'no packet follows the old flow');
    const left = (await flows(world)).split('\n').filter((line) => line.includes(address));
    t.match(left, [/sport=40000 .*src=1\.2\.3\.4/], 'and no other is made');
    t.equal(left.length, 1);
    await end(second);
    t.same(hosts(world, 'second', 'allow'), ['also.test']);
    t.ok(audit(world, 'second').every(({ principal }) => principal === world.name('second')));
    await world.host.must(['conntrack', '-F']);
  });

  await t.test('two runs at once each get their own verdicts, and neither can be the other', async (t) => {
    const ask = `for n in good.test also.test; do curl -k -sS -o /dev/null -w "$n %{http_connect}\\n" https://$n; done 2>/dev/null; echo asked; sleep 7179`;
    const [alpha, beta] = [start(world, 'alpha', goodOnly, ask), start(world, 'beta', alsoOnly, ask)];
    await Promise.all([alpha, beta].map(async (run) => await run.line('asked')));
    t.match(alpha.lines.join(), /good\.test 200,also\.test 403/);
    t.match(beta.lines.join(), /good\.test 403,also\.test 200/);
    const [[own = '', ownProxy = ''], [other = '', otherProxy = '']] = [
      placeOf(world, 'alpha'),
      placeOf(world, 'beta'),
    ];
    const before = { lines: audit(world, 'beta').length, spoofed: await spoofed(world, 'beta') };
    const ownSpoofed = await spoofed(world, 'alpha');
    const inAlpha = ['ip', 'netns', 'exec', `sallyport-${world.name('alpha')}`, 'sh', '-c'];
    const from = (source: string, to: string): string =>
      `printf "CONNECT also.test:443 HTTP/1.1\\r\\nHost: also.test:443\\r\\n\\r\\n" | nc -w1 -s ${source} ${to} 3128`;
    const routes = `ip addr add ${other}/32 dev eth0; ip route add ${otherProxy} via ${ownProxy}`;
    const { stdout } = await world.host.run([
      ...inAlpha,
      `${routes}; ${from(own, ownProxy)}; echo honest; ${from(other, ownProxy)}; ${from(other, otherProxy)}; ${from(own, otherProxy)}`,
    ]);
    t.match(
      stdout,
      /HTTP\/1\.1 403[^]*no_rule_matched[^]*honest\n$/,
      'control: as itself it is answered, and refused',
    );
    t.notMatch(stdout, /honest\n[^]/, "with the other's address, or at the other's door, it gets nothing");
    t.ok((await spoofed(world, 'alpha')) >= ownSpoofed + 2, 'the false source is counted');
    t.equal(await spoofed(world, 'beta'), before.spoofed, 'for the run that sent it, not the other');
    t.equal(audit(world, 'beta').length, before.lines, 'nobody spoke in the name of the other');

    const { stdout: stranger } = await world.host.run([
      'curl',
      '-sS',
      '-o',
      '/dev/null',
      '-D',
      '-',
      '-x',
      `http://${ownProxy}:3128`,
      'https://good.test',
    ]);
    t.match(
      stranger,
      /403[^]*principal_unknown/,
      'whoever is not the sandbox is nobody, this machine included',
    );
    await Promise.all([alpha, beta].map(end));
  });
});

async function spoofed(world: World, word: string): Promise<number> {
  return (await world.drops(world.name(word))).get('spoof') ?? 0;
}

/** A policy that allows `host` alone. */
function policyFor(world: World, host: string): string {
  const file = join(world.dir, `only-${host}.json`);
  writeFileSync(
    file,
    JSON.stringify({ ...policy, allow: policy.allow.filter((rule) => rule.host === host) }),
  );
  return file;
}

function start(world: World, word: string, file = '', script: string): StartedRun {
  return world.start(['--name', world.name(word), '--policy', file], ['sh', '-c', script]);
}

async function end(run: StartedRun): Promise<void> {
  run.child.kill('SIGTERM');
  await run.ended;
}

/** Opens a tunnel and holds it for as long as it lasts. */
function tunnel(host: string, options = ''): string {
  const request = `CONNECT ${host}:443 HTTP/1.1\\r\\nHost: ${host}:443\\r\\n\\r\\n`;
  return `P=\${HTTPS_PROXY#http://}; { printf "${request}"; sleep 7179; } | nc ${options} \${P%:*} 3128`;
}

/** The address of a live run, and that of its proxy. */
function placeOf(world: World, word: string): readonly string[] {
  const file = join(world.state, 'runs', world.name(word), 'boundary.json');
  const { sandbox, proxy } = slotAt((JSON.parse(readFileSync(file, 'utf8')) as { slot: number }).slot);
  return [sandbox, proxy];
}

async function flows(world: World): Promise<string> {
  return await world.host.must(['conntrack', '-L']);
}

interface Line {
  readonly event: string;
  readonly principal: string;
  readonly verdict: string;
  readonly host: string;
}

function audit(world: World, word: string): readonly Line[] {
  const file = join(world.state, 'audit', `${world.name(word)}.jsonl`);
  const text = existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
  return text.split('\n').map((line) => JSON.parse(line) as Line);
}

function hosts(world: World, word: string, verdict: string): readonly string[] {
  const decided = audit(world, word).filter((line) => line.event === 'decision' && line.verdict === verdict);
  return [...new Set(decided.map(({ host }) => host))];
}
