// One run under siege: `sallyport run` on a machine whose nft program, audit disk and clock a test can take away.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Netns } from '../../helpers/netns.ts';
import type { StartedRun } from '../world.ts';
import { makeCell, type Cell } from './cell.ts';
import type { Grounds } from './grounds.ts';
import { until } from './until.ts';

interface Tearable {
  teardown(handler: () => void | Promise<void>): void;
}

/** The proxy of the run, as a process. */
export interface ProxyProcess {
  readonly pid: number;
  readonly signal: (name: NodeJS.Signals) => void;
  readonly descriptors: () => number;
  /** Sets RLIMIT_NOFILE. */
  readonly limit: (descriptors: number) => Promise<void>;
  /** CPU time used so far, in clock ticks (proc(5)). */
  readonly ticks: () => number;
}

export interface Siege extends Grounds {
  readonly run: StartedRun;
  readonly cell: Cell;
  readonly netns: string;
  readonly table: string;
  readonly proxy: ProxyProcess;
  /** Words that run what follows with the files of the run's machine. */
  readonly beside: readonly string[];
  /** Where its audit is on that machine, and how a test reads it. */
  readonly disk: string;
  readonly audit: () => string;
  /** The next line of the runner that contains `part`, from the `from`th on; where it is. */
  readonly said: (part: string, from: number) => Promise<number>;
  /** Metrics or health as an operator sees them; `nobody answers` when it takes longer than 2 s. */
  readonly page: (path: 'metrics' | 'readyz' | 'healthz') => Promise<string>;
  /** Takes the table away and waits until it is back; the line that says so. */
  readonly flush: () => Promise<number>;
}

const metrics = '10.98.0.1:9192';

/** Name of the run, and of the host's end of its link. */
export function siegeNames(tag: (word: string) => string): { readonly name: string; readonly link: string } {
  return { name: tag('siege'), link: `sp-${tag('siege')}` };
}

export async function laySiege(t: Tearable, grounds: Grounds): Promise<Siege> {
  const { world, clock } = grounds;
  const { host, dir } = world;
  const { name, link } = siegeNames((word) => world.name(word));
  const disk = join(dir, 'audit');
  const machine = join(import.meta.dirname, 'machine.sh');
  const around = ['unshare', '--mount', '--propagation', 'unchanged', 'sh', machine, dir, clock.library];
  const service = ['--service', 'db=private.test:5432@10.98.0.2'];
  const options = [
    '--name',
    name,
    '--audit',
    join(disk, 'a.jsonl'),
    '--metrics',
    metrics,
    '--timeout',
    '3600',
  ];
  const run = world.start([...options, ...service], ['sh', '-c', 'echo up; sleep 7177'], around);
  await run.line('up');
  const root = `/proc/${run.child.pid ?? 0}`;
  const netns = `sallyport-${name}`;
  const inside = ['nsenter', `--net=/run/netns/${netns}`, '--'];
  const shown = await host.must([...inside, 'ip', '-4', '-o', 'addr', 'show', 'dev', 'eth0']);
  const address = /10\.219\.\d+\.\d+/.exec(shown)?.[0] ?? '';
  const proxy = address.replace(/\d+$/, (last) => String(Number(last) - 1));
  const table = `sallyport_${name}`;
  const said = async (part: string, from: number): Promise<number> => {
    const place = (): number => run.lines.findIndex((line, at) => at >= from && line.includes(part));
    await until(() => place() >= 0);
    return place();
  };
  return {
    ...grounds,
    run,
    cell: makeCell(t, { host, link, inside, address, proxy, outside: world.address }),
    netns,
    table,
    proxy: await findProxy(host, join(world.state, 'runs', name)),
    beside: ['nsenter', `--mount=${root}/ns/mnt`, '--'],
    disk,
    audit: () => readFileSync(join(`${root}/root`, disk, 'a.jsonl'), 'utf8'),
    said,
    async page(path) {
      const argv = ['curl', '-sS', '--noproxy', '*', '--max-time', '2', `http://${metrics}/${path}`];
      const { code, stdout } = await host.run(argv);
      return code === 0 ? stdout : 'nobody answers';
    },
    async flush() {
      const from = run.lines.length;
      await host.must(['nft', 'delete', 'table', 'inet', table]);
      return await said('it was put back in', from);
    },
  };
}

async function findProxy(host: Netns, directory: string): Promise<ProxyProcess> {
  const pid = Number((await host.must(['pgrep', '-o', '-f', `proxy --config ${directory}`])).trim());
  return {
    pid,
    signal: (name) => void process.kill(pid, name),
    descriptors: () => readdirSync(`/proc/${pid}/fd`).length,
    async limit(descriptors) {
      // As its own user: root may do so only with CAP_SYS_RESOURCE, which a container's has not.
      const asItself = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
      await host.must([...asItself, 'prlimit', `--pid=${pid}`, `--nofile=${descriptors}:`]);
    },
    ticks() {
      const [, ...fields] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
      const [user = '0', system = '0'] = fields.join(') ').split(' ').slice(11, 13);
      return Number(user) + Number(system);
    },
  };
}
