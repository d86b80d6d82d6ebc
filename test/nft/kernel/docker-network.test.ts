// A Docker network that somebody else made: routed, in two families, with containers that use the engine's own resolver. Judged at every address of the
// host, outside, and at both resolvers of the host. In CI the engine must start; elsewhere a missing one skips with its name.
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { importImage, startDocker, wantedForDocker, type Docker } from '../world/docker.ts';
import {
  addressesOf,
  attempts,
  drops,
  makeMachine,
  missing,
  perlServer,
  setBridgeNf,
  sinksOf,
  untilWhole,
  type Machine,
} from '../world/engine.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

type Assertions = Pick<typeof t, 'equal' | 'same' | 'match' | 'notMatch' | 'ok'>;

const words = '--interface br-agents --proxy 172.29.0.2:3128'.split(' ');
/** Of members: by their addresses, the link-local one included. */
const members = / 172\.29\.0\.| fd00:29:| fe80::42:acff:fe1d:/;

/** The network and three containers: the proxy, `one` who tries, `two` who is tried. */
async function populate({ must }: Docker): Promise<void> {
  const subnets = ['--subnet', '172.29.0.0/24', '--ipv6', '--subnet', 'fd00:29::/64'];
  await must('network', 'create', ...subnets, '-o', 'com.docker.network.bridge.name=br-agents', 'theirs');
  for (const [name, last] of [
    ['proxy', 2],
    ['one', 10],
    ['two', 11],
  ] as const)
    await start({ must }, name, last);
}

async function start({ must }: Pick<Docker, 'must'>, name: string, last: number): Promise<void> {
  const flags = [
    '--name',
    name,
    '--network',
    'theirs',
    '--ip',
    `172.29.0.${last}`,
    '--ip6',
    `fd00:29::${last}`,
    '--restart',
    'unless-stopped',
  ];
  await must(
    'run',
    '-d',
    ...flags,
    '-v',
    '/usr:/usr:ro',
    'test-host',
    'perl',
    '-MIO::Socket::IP',
    '-e',
    perlServer,
  );
}

t.test('a Docker network that somebody else made', { skip: needs(t, wantedForDocker) }, async (t) => {
  const machine = await makeMachine(t);
  const engine = await startDocker(t, machine, ['127.0.0.1', '10.98.0.2']);
  const { docker } = engine;
  await importImage(engine, 'test-host');
  await populate(engine);
  const one = async (script: string): Promise<string> =>
    (await docker('exec', 'one', 'bash', '-c', script)).stdout;
  const others = async (): Promise<readonly string[]> => [
    ...(await addressesOf(machine)),
    '172.29.0.11',
    'fd00:29::11',
    '10.98.0.2',
    'fd00:98::2',
  ];

  await t.test(
    'without a fence a member reaches everything, and its questions every resolver (control)',
    async (t) => {
      const seen = await sinksOf(machine, members);
      const wanted = (await addressesOf(machine)).map((at) => `${at} 22`);
      t.same(await missing(one, await others(), [...wanted, '172.29.0.11 3128', 'fd00:29::11 3128']), []);
      const leaks = await seen();
      t.ok(
        leaks.some((line) => / 10\.98\.0\.2 53 /.test(line)),
        leaks.join('\n'),
      );
      t.ok(
        leaks.some((line) => / 127\.0\.0\.1 127\.0\.0\.1 53 /.test(line)),
        "from the host's own namespace",
      );
    },
  );

  const rules = await machine.othersRules();
  const inside = await rulesInside(machine, engine, 'one');
  t.match(inside, /127\.0\.0\.11/, 'the engine has rules in there, too');
  t.match(await machine.fence('apply', ...words), { code: 0, stderr: '' });

  /** A new member has no way to ask for the gateway's hardware address: it is the ARP question that counts then. */
  const holds = async (t: Assertions, counted: 'dns' | 'layer2'): Promise<void> => {
    const seen = await sinksOf(machine, members);
    const open = (await one(attempts(await others()))).replaceAll(/open udp .*\n/g, ''); // UDP that is sent says nothing
    t.equal(open, 'done\n', 'nothing is open');
    t.same(await seen(), [], 'zero packets at the host, outside, and at the resolvers');
    t.ok((await drops(machine, words, counted)) > 0, `a question to the gateway is counted as ${counted}`);
    t.equal(
      await one('timeout 20 bash -c "cat < /dev/tcp/172.29.0.2/3128"'),
      'hello',
      'the proxy is reached',
    );
    t.equal(await one('timeout 1 bash -c "cat < /dev/tcp/172.29.0.2/22"'), '', 'on its port only');
  };
  for (const value of ['1', '0'] as const)
    await t.test(
      `behind the fence there is the proxy and nothing else, with bridge netfilter ${value}`,
      async (t) => {
        await setBridgeNf(machine, value);
        await holds(t, 'dns');
      },
    );

  await t.test(
    'no rule of the engine has moved, on the host or in a container, and the proxy may ask',
    async (t) => {
      t.equal(await machine.othersRules(), rules);
      t.equal(await rulesInside(machine, engine, 'one'), inside);
      t.match(await tablesInside(machine, engine, 'one'), /^table inet sallyport_r/m);
      t.notMatch(await tablesInside(machine, engine, 'proxy'), /sallyport/);
    },
  );

  await t.test(
    'the watch closes the resolver for a new member, and for all after a restart of the engine',
    async (t) => {
      const watch = machine.watch('watch', ...words);
      await watch.line((line) => line.includes('watching'));
      await start(engine, 'three', 12);
      t.notMatch(await untilWhole(machine, words), /can ask/);
      const seen = await sinksOf(machine, members);
      t.match(await docker('exec', 'three', 'bash', '-c', attempts([])), { stdout: 'done\n' });
      t.same(await seen(), []);
      await engine.restart();
      await untilWhole(machine, words);
      await holds(t, 'layer2');
      t.notMatch(await tablesInside(machine, engine, 'proxy'), /sallyport/);
      await watch.stop();
    },
  );

  await t.test('removed, nothing of it is left, on the host or in a container', async (t) => {
    t.match(await machine.fence('remove'), { code: 0 });
    t.notMatch(await machine.host.must(['nft', 'list', 'tables']), /sallyport/);
    t.notMatch(await tablesInside(machine, engine, 'one'), /sallyport/);
  });
});

async function inNamespace(
  machine: Machine,
  { must }: Docker,
  name: string,
  ...argv: readonly string[]
): Promise<string> {
  const pid = (await must('inspect', '-f', '{{.State.Pid}}', name)).trim();
  return await machine.host.must(['nsenter', '-t', pid, '-n', ...argv]);
}

async function tablesInside(machine: Machine, engine: Docker, name: string): Promise<string> {
  return await inNamespace(machine, engine, name, 'nft', 'list', 'tables');
}

/** Everything of other tables in a container's namespace. */
async function rulesInside(machine: Machine, engine: Docker, name: string): Promise<string> {
  const text = await inNamespace(machine, engine, name, 'nft', '-s', 'list', 'ruleset');
  return text.replaceAll(/^table inet sallyport_r\w+ \{\n[\s\S]*?^\}\n/gm, '');
}
