// A network of podman whose proxy is a member: what the others send is judged at the host's own addresses and outside. In CI podman must run;
// elsewhere a missing one skips with its name.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { run, type Output } from '../../helpers/netns.ts';
import { attempts, common, makeMachine, setBridgeNf, sinksOf, world } from '../world/engine.ts';

/** What podman needs here: limits that it may set, and a network whose bridge has a name that the fence knows. */
function podmanFiles(dir: string): void {
  mkdirSync(join(dir, 'networks'));
  writeFileSync(
    join(dir, 'containers.conf'),
    '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n',
  );
  const network = {
    name: 'agents',
    id: 'a'.repeat(64),
    driver: 'bridge',
    network_interface: 'br-agents',
    created: '2026-01-01T00:00:00Z',
    subnets: [{ subnet: '172.31.0.0/24' }],
    ipv6_enabled: false,
    internal: true,
    dns_enabled: false,
    ipam_options: { driver: 'host-local' },
  };
  writeFileSync(join(dir, 'networks/agents.json'), JSON.stringify(network));
}

/** Says hello on 22 and 3128; perl, because it starts at once. */
const perlServer =
  'for my $p (22, 3128) { next if fork; my $l = IO::Socket::INET->new(Listen => 9, LocalPort => $p, ReuseAddr => 1) or die; while (my $c = $l->accept) { print $c "hello"; close $c } } sleep';

const wantedForPodman = [...common, 'podman', 'runc'];

t.test('a network of podman, whose proxy is a member', { skip: needs(t, wantedForPodman) }, async (t) => {
  const machine = await makeMachine(t);
  const { dir, host } = machine;
  podmanFiles(dir);
  await run(['sh', '-c', `mkdir ${dir}/skel && sh ${world}/host-image.sh | tar -C ${dir}/skel -x`]);
  const env = { ...process.env, CONTAINERS_CONF: join(dir, 'containers.conf') };
  const place = ['--root', `${dir}/p`, '--runroot', `${dir}/pr`, '--network-config-dir', `${dir}/networks`];
  const podman = async (...more: readonly string[]): Promise<Output> =>
    await host.run(['podman', ...place, '--runtime', 'runc', ...more], { env, timeoutMs: 60_000 });
  t.teardown(async () => void (await podman('rm', '-fa', '-t', '0')));
  const start = async (name: string, address: string, ...command: readonly string[]): Promise<Output> => {
    const flags = [
      '--name',
      name,
      '--network',
      `agents:ip=${address}`,
      '-v',
      '/usr:/usr:ro',
      '--dns',
      'none',
    ];
    return await podman('run', '-d', ...flags, '--rootfs', `${dir}/skel:O`, ...command);
  };
  const proxy = await start('proxy', '172.31.0.2', 'perl', '-MIO::Socket::INET', '-e', perlServer);
  t.equal(proxy.code, 0, proxy.stderr);
  for (const [name, address] of [
    ['one', '172.31.0.10'],
    ['two', '172.31.0.11'],
  ] as const)
    t.equal((await start(name, address, 'perl', '-MIO::Socket::INET', '-e', perlServer)).code, 0);
  const agent = async (script: string): Promise<string> =>
    (await podman('exec', 'one', 'bash', '-c', script)).stdout;
  const others = ['172.31.0.11', '172.31.0.1', '10.98.0.1'];
  t.match(
    await agent(attempts(others)),
    /open tcp 172\.31\.0\.11 3128/,
    'members reach each other (control)',
  );
  const words = '--interface br-agents --subnet 172.31.0.0/24 --proxy 172.31.0.2:3128'.split(' ');
  const before = await machine.othersRules();
  t.match(await machine.fence('apply', ...words), { code: 0, stderr: '' });
  for (const value of ['1', '0'] as const) {
    await setBridgeNf(machine, value);
    const seen = await sinksOf(machine, / 172\.31\.0\./);
    t.equal((await agent(attempts(others))).replaceAll(/open udp .*\n/g, ''), 'done\n');
    t.same(await seen(), [], 'zero packets');
    t.equal(
      await agent('timeout 20 bash -c "cat < /dev/tcp/172.31.0.2/3128"'),
      'hello',
      'the proxy is reached',
    );
    t.equal(await agent('timeout 1 bash -c "cat < /dev/tcp/172.31.0.2/22"'), '', 'on its port only');
  }
  t.equal(await machine.othersRules(), before);
});
