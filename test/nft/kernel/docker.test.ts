// examples/compose with a real dockerd, started in a namespace of the test: what agents send is judged at the host's own addresses and outside.
// In CI the engine must start; elsewhere a missing one skips with its name.
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { once } from 'node:events';
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { run, type Output, type Running } from '../../helpers/netns.ts';
import {
  attempts,
  common,
  connects,
  example,
  makeMachine,
  root,
  setBridgeNf,
  sinksOf,
  type Machine,
  type Tearable,
} from '../world/engine.ts';

type Assertions = Pick<typeof t, 'equal' | 'same' | 'match'>;

interface Docker {
  readonly docker: (...words: readonly string[]) => Promise<Output>;
  readonly compose: (...words: readonly string[]) => Promise<Output>;
  /** Ends the engine and starts it again. */
  readonly restart: () => Promise<void>;
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
