// A network of podman with a resolver of its own, made by somebody else and made again under a fence: judged at every address of the host, outside, and
// at the host's resolvers. In CI podman must run; elsewhere a missing one skips with its name.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { run, type Output } from '../../helpers/netns.ts';
import {
  addressesOf,
  attempts,
  common,
  drops,
  makeMachine,
  missing,
  perlServer,
  setBridgeNf,
  sinksOf,
  untilWhole,
  world,
  type Machine,
  type Tearable,
} from '../world/engine.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

type Assertions = Pick<typeof t, 'equal' | 'same' | 'match' | 'ok'>;

const words = '--interface br-agents --proxy 172.31.0.2:3128'.split(' ');
const members = / 172\.31\.0\.(?!1 )| fd00:31:/;

/** As a file, because podman names a bridge on request only from 4.4 on. */
const network = {
  name: 'theirs',
  id: 'a'.repeat(64),
  driver: 'bridge',
  network_interface: 'br-agents',
  created: '2026-01-01T00:00:00Z',
  subnets: [
    { subnet: '172.31.0.0/24', gateway: '172.31.0.1' },
    { subnet: 'fd00:31::/64', gateway: 'fd00:31::1' },
  ],
  ipv6_enabled: true,
  internal: false,
  dns_enabled: true,
  ipam_options: { driver: 'host-local' },
};

interface Podman {
  /** Makes the network and three containers: the proxy, `one` who tries, `two` who is tried. */
  readonly make: () => Promise<void>;
  /** Takes all of it away. */
  readonly unmake: () => Promise<void>;
  readonly exec: (script: string) => Promise<string>;
}

/** Limits that this machine lets it set, and places of its own. */
async function makePodman(t: Tearable, { dir, host }: Machine): Promise<Podman> {
  writeFileSync(
    join(dir, 'containers.conf'),
    '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n',
  );
  await run([
    'sh',
    '-c',
    `mkdir ${dir}/skel ${dir}/networks && sh ${world}/host-image.sh | tar -C ${dir}/skel -x`,
  ]);
  const env = { ...process.env, CONTAINERS_CONF: join(dir, 'containers.conf') };
  const place = ['--root', `${dir}/p`, '--runroot', `${dir}/pr`, '--network-config-dir', `${dir}/networks`];
  const podman = async (...more: readonly string[]): Promise<Output> =>
    await host.run(['podman', ...place, '--runtime', 'runc', ...more], { env, timeoutMs: 60_000 });
  const must = async (...more: readonly string[]): Promise<void> => {
    const { code, stderr } = await podman(...more);
    if (code !== 0) throw new Error(`podman ${more.join(' ')}: ${stderr}`);
  };
  const start = async (name: string, last: number): Promise<void> => {
    const at = `theirs:ip=172.31.0.${last},ip6=fd00:31::${last}`;
    const command = ['perl', '-MIO::Socket::IP', '-e', perlServer];
    await must(
      'run',
      '-d',
      '--name',
      name,
      '--network',
      at,
      '-v',
      '/usr:/usr:ro',
      '--rootfs',
      `${dir}/skel:O`,
      ...command,
    );
  };
  t.teardown(async () => {
    await podman('rm', '-fa', '-t', '0');
    // Its storage is mounted over itself, and now and then stays so.
    await run(['umount', '-l', `${dir}/p/overlay`]);
  });
  return {
    make: async () => {
      writeFileSync(join(dir, 'networks/theirs.json'), JSON.stringify(network));
      await start('proxy', 2);
      await start('one', 10);
      await start('two', 11);
    },
    unmake: async () => {
      await must('rm', '-fa', '-t', '0');
      await must('network', 'rm', 'theirs');
    },
    exec: async (script) => (await podman('exec', 'one', 'bash', '-c', script)).stdout,
  };
}

t.test('a network of podman', { skip: needs(t, [...common, 'podman', 'runc']) }, async (t) => {
  const machine = await makeMachine(t);
  const podman = await makePodman(t, machine);
  await podman.make();
  const others = async (): Promise<readonly string[]> => [
    ...(await addressesOf(machine)),
    '172.31.0.11',
    'fd00:31::11',
    '10.98.0.2',
    'fd00:98::2',
  ];

  await t.test(
    'without a fence a member reaches everything, and its questions a resolver (control)',
    async (t) => {
      const seen = await sinksOf(machine, members);
      const wanted = (await addressesOf(machine)).map((at) => `${at} 22`);
      t.same(
        await missing(podman.exec, await others(), [...wanted, '172.31.0.11 3128', 'fd00:31::11 3128']),
        [],
      );
      const leaks = (await seen()).filter((line) => / 53 \d+$/.test(line) && !members.test(line));
      t.ok(leaks.length > 0, 'the resolver of the network asks that of the host');
    },
  );

  const rules = await machine.othersRules();
  t.match(await machine.fence('apply', ...words), { code: 0, stderr: '' });
  /** A new member has no way to ask for the gateway's hardware address: it is the ARP question that counts then. */
  const holds = async (t: Assertions, counted: 'dns' | 'layer2'): Promise<void> => {
    const seen = await sinksOf(machine, members);
    const open = (await podman.exec(attempts(await others()))).replaceAll(/open udp .*\n/g, ''); // UDP that is sent says nothing
    t.equal(open, 'done\n', 'nothing is open');
    t.same(await seen(), [], 'zero packets at the host, outside, and at the resolvers');
    t.ok((await drops(machine, words, counted)) > 0, `a question to the gateway is counted as ${counted}`);
    t.equal(
      await podman.exec('timeout 20 bash -c "cat < /dev/tcp/172.31.0.2/3128"'),
      'hello',
      'the proxy is reached',
    );
    t.equal(await podman.exec('timeout 1 bash -c "cat < /dev/tcp/172.31.0.2/22"'), '', 'on its port only');
  };
  for (const value of ['1', '0'] as const)
    await t.test(
      `behind the fence there is the proxy and nothing else, with bridge netfilter ${value}`,
      async (t) => {
        await setBridgeNf(machine, value);
        await holds(t, 'dns');
      },
    );
  t.equal(await machine.othersRules(), rules, "the engine's tables are as they were");

  await t.test('made again under the name of its bridge, the network is fenced again', async (t) => {
    const watch = machine.watch('watch', ...words);
    await watch.line((line) => line.includes('watching'));
    await podman.unmake();
    await podman.make();
    await untilWhole(machine, words);
    await holds(t, 'layer2');
    await watch.stop();
  });
});
