// examples/compose with a real dockerd, started in a namespace of the test: what agents send is judged at the host's own addresses and outside.
// In CI the engine must start; elsewhere a missing one skips with its name.
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { run, type Output } from '../../helpers/netns.ts';
import { importImage, startDocker, wantedForDocker, type Docker } from '../world/docker.ts';
import {
  addressesOf,
  attempts,
  connects,
  example,
  makeMachine,
  root,
  setBridgeNf,
  sinksOf,
  type Machine,
} from '../world/engine.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

type Assertions = Pick<typeof t, 'equal' | 'same' | 'match'>;

const own = {
  proxy: { stop_grace_period: '1s', extra_hosts: ['api.anthropic.com:1.2.3.4'] },
  agent: { stop_grace_period: '1s', volumes: ['/usr:/usr:ro'] },
};

/** docker-compose with the example, and with what only a test needs. */
function composeIn({ dir }: Machine, { env }: Docker): (...words: readonly string[]) => Promise<Output> {
  cpSync(example, join(dir, 'compose'), { recursive: true });
  writeFileSync(join(dir, 'compose/override.yaml'), JSON.stringify({ version: '2.4', services: own }));
  const files = ['-f', join(dir, 'compose/compose.yaml'), '-f', join(dir, 'compose/override.yaml')];
  const words = { ...env, AGENT: 'test-host', COMPOSE_PROJECT_NAME: 'spt' };
  return async (...more) =>
    await run(['docker-compose', ...files, ...more], { env: words, timeoutMs: 100_000 });
}

/** The image of the proxy, from the Containerfile; the images of Node and npm's network have stand-ins. */
async function buildProxy(engine: Docker): Promise<void> {
  await importImage(engine, 'test-host');
  await importImage(engine, 'test-node');
  const stand = ['BUILD=test-node', 'BASE=test-node', 'INSTALL=cp -r /built/. .'];
  const words = [
    '-t',
    'sallyport',
    '-f',
    `${example}/Containerfile`,
    ...stand.flatMap((one) => ['--build-arg', one]),
  ];
  await engine.must('build', ...words, root);
}

t.test(
  'examples/compose with dockerd',
  { skip: needs(t, [...wantedForDocker, 'docker-compose']) },
  async (t) => {
    const machine = await makeMachine(t);
    const engine = await startDocker(t, machine, ['10.98.0.1', '127.0.0.1']);
    const { docker, restart } = engine;
    const compose = composeIn(machine, engine);
    await buildProxy(engine);
    const up = await compose('up', '-d', '--scale', 'agent=2');
    t.equal(up.code, 0, `the proxy is healthy, so the agents start: ${up.stderr}`);

    await t.test('the proxy has an image of its own, no rights, and nothing to write to', async (t) => {
      const script = `
      const fs = require('node:fs'); const status = fs.readFileSync('/proc/1/status', 'utf8')
      const lines = status.split('\\n').filter((line) => /^(Uid|CapEff|CapBnd|NoNewPrivs):/.test(line))
      const written = ['/sallyport/x', '/tmp/x', '/x'].filter((path) => { try { fs.writeFileSync(path, ''); return true } catch { return false } })
      console.log(JSON.stringify({ lines, written, usr: fs.readdirSync('/usr') }))`;
      t.same(JSON.parse(await engine.must('exec', 'spt_proxy_1', 'node', '-e', script)), {
        lines: [
          'Uid:\t65534\t65534\t65534\t65534',
          'CapEff:\t0000000000000000',
          'CapBnd:\t0000000000000000',
          'NoNewPrivs:\t1',
        ],
        written: [],
        usr: ['local'],
      });
      t.match(await engine.must('inspect', 'spt_proxy_1'), /"Health": \{\s+"Status": "healthy"/);
      t.match((await docker('logs', 'spt_proxy_1')).stderr, /"relay":"splice"/, 'with its native parts');
    });

    const agent = async (script: string): Promise<string> =>
      (await docker('exec', 'spt_agent_1', 'bash', '-c', script)).stdout;
    const inspected = (await docker('inspect', 'spt_agent_2')).stdout;
    const [, two = ''] = /"IPAddress": "(172\.30\.0\.\d+)"/.exec(inspected) ?? [];
    const others = [two, ...(await addressesOf(machine)), '10.98.0.2', '1.2.3.4', '169.254.169.254'];

    await t.test('an internal network alone does not keep an agent from the host (control)', async (t) => {
      const seen = await sinksOf(machine, / 172\.30\.0\./);
      t.match(await agent(attempts(others)), /open tcp 10\.98\.0\.1 22/);
      const free = ['--network', 'spt_agents', '-v', '/usr:/usr:ro', '--rm', 'test-host'];
      await docker('run', ...free, 'bash', '-c', attempts([]));
      const leaks = (await seen()).join('\n');
      t.match(leaks, / 172\.30\.0\.\d+ 10\.98\.0\.1 22 /);
      t.match(leaks, / 53 \d+$/m, 'and without `dns` the engine asks the resolver of the host for it');
    });

    const words = '--interface br-agents --proxy 172.30.0.2:3128'.split(' ');
    const before = await machine.othersRules();
    t.match(await machine.fence('apply', ...words), { code: 0 });
    const holds = async (t: Assertions): Promise<void> => {
      const seen = await sinksOf(machine, / 172\.30\.0\./);
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
  },
);
