// A real dockerd in the namespace of a test's machine, and images made of what the machine has. Not what containers are tried for: that is each test's.
import { once } from 'node:events';
import { realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, type Output, type Running } from '../../helpers/netns.ts';
import { common, root, type Machine, type Tearable } from './engine.ts';

export const wantedForDocker = [...common, 'dockerd', 'docker'];
const world = import.meta.dirname;

export interface Docker {
  /** What a client of this engine needs. */
  readonly env: NodeJS.ProcessEnv;
  readonly docker: (...words: readonly string[]) => Promise<Output>;
  /** The same, but throws when it fails: its stdout. */
  readonly must: (...words: readonly string[]) => Promise<string>;
  /** Ends the engine and starts it again. */
  readonly restart: () => Promise<void>;
}

/** Starts it with `resolvers` as the host's; ended with the test. */
export async function startDocker(
  t: Tearable,
  { dir, host }: Machine,
  resolvers: readonly string[],
): Promise<Docker> {
  const socket = `unix://${dir}/d.sock`;
  writeFileSync(join(dir, 'resolv.conf'), resolvers.map((one) => `nameserver ${one}\n`).join(''));
  const words = `--data-root ${dir}/d/data --exec-root ${dir}/d/exec -H ${socket} --pidfile ${dir}/d.pid`;
  const script = `mount --bind ${dir}/resolv.conf /etc/resolv.conf; exec dockerd ${words} 2>> ${dir}/d.log`;
  const env = { ...process.env, DOCKER_HOST: socket };
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
  t.teardown(async () => {
    await docker('rm', '-f', ...(await docker('ps', '-aq')).stdout.split('\n').filter(Boolean));
    await end();
  });
  return {
    env,
    docker,
    must: async (...more) => {
      const { code, stdout, stderr } = await docker(...more);
      if (code !== 0) throw new Error(`docker ${more.join(' ')}: ${stderr}`);
      return stdout;
    },
    restart: async () => {
      await end();
      engine = await start();
    },
  };
}

/** `test-host`: empty folders over which the machine's own /usr is mounted. `test-node`: what stands for the images of Node. */
export async function importImage({ env }: Docker, name: 'test-host' | 'test-node'): Promise<void> {
  const words =
    name === 'test-host' ? ['host-image.sh'] : ['node-image.sh', root, realpathSync(process.execPath)];
  const script = `sh ${world}/${words.join(' ')} | docker import - ${name}`;
  const { code, stderr } = await run(['sh', '-c', script], { env, timeoutMs: 60_000 });
  if (code !== 0) throw new Error(stderr);
}
