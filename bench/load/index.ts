// Compiles the load generator and runs it: one upstream and one or more clients for each workload. Judges no figure.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const build = join(import.meta.dirname, 'build');
const flags = ['-std=c11', '-O2', '-pthread', '-g', '-Wall', '-Wextra', '-Wconversion'];
const programs = {
  client: ['client.c', 'opening.c', 'workloads.c', 'wire.c'],
  upstream: ['upstream.c', 'wire.c'],
};

/** The machine lacks what the bench needs; the message says what to install. */
export class MissingTool extends Error {}

/** Builds both programs. Throws MissingTool without a compiler. */
export function compileLoad(): void {
  const cc = process.env['CC'] ?? 'cc';
  mkdirSync(build, { recursive: true });
  for (const [program, sources] of Object.entries(programs)) {
    const fresh = join(build, `${program}-${process.pid}`);
    const paths = sources.map((source) => join(import.meta.dirname, source));
    const { status, stderr, error } = spawnSync(cc, [...flags, ...paths, '-o', fresh], {
      encoding: 'utf8',
    });
    if (error !== undefined)
      throw new MissingTool(
        `there is no C compiler (\`${cc}\`)\nhelp: apt-get install gcc libc6-dev, or name one with CC`,
      );
    if (status !== 0)
      throw new MissingTool(
        `the load generator does not compile: ${stderr}\nhelp: apt-get install gcc libc6-dev`,
      );
    // At once: another bench of this checkout may be running the old one.
    renameSync(fresh, join(build, program));
  }
}

/** Times in µs. */
export interface ClientReport {
  readonly workload: string;
  readonly done: number;
  readonly errors: number;
  readonly wrong: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly firstError: string;
  /** Idle tunnels that did not stay open. */
  readonly lost: number;
}

export interface UpstreamReport {
  readonly accepted: number;
  readonly open: number;
  readonly hellos: number;
  readonly echoed: number;
  readonly sourced: number;
  readonly sunk: number;
  readonly wrong: number;
  readonly errors: number;
}

export type Workload = 'tunnels' | 'trips' | 'down' | 'up' | 'hold';

/** Where a client goes, and how it asks. */
export interface Way {
  /** ADDRESS:PORT of the proxy, or of the upstream. */
  readonly to: string;
  readonly host: string;
  /** Asks with CONNECT; else its hello is the first thing it says. */
  readonly connects: boolean;
}

export interface Amount {
  readonly slots: number;
  readonly ms?: number;
  readonly stages?: readonly number[];
}

export interface Upstream extends AsyncDisposable {
  /** Ends it; what it saw. */
  end(): Promise<UpstreamReport>;
}

/** Starts an upstream on ADDRESS:PORT; `pace` is the most bytes per second that it sends down one tunnel. */
export async function startUpstream(listen: string, pace?: number): Promise<Upstream> {
  const program = start('upstream', [listen, ...(pace === undefined ? [] : [String(pace)])]);
  await nextLine(program);
  return {
    async end() {
      program.child.stdin?.end();
      const line = await nextLine(program);
      await endOf(program);
      return JSON.parse(line) as UpstreamReport;
    },
    [Symbol.asyncDispose]: async () => await endOf(program),
  };
}

/** A client that holds tunnels open in stages. */
export interface Holder extends AsyncDisposable {
  /** Opens the next stage; how many are held in all. */
  readonly next: () => Promise<number>;
  /** Closes them all. */
  readonly end: () => Promise<ClientReport>;
}

export async function runClient(workload: Workload, way: Way, amount: Amount): Promise<ClientReport> {
  return JSON.parse(await nextLine(start('client', clientArgs(workload, way, amount)))) as ClientReport;
}

export function startHolder(way: Way, amount: Amount): Holder {
  const program = start('client', clientArgs('hold', way, amount));
  let isFirst = true;
  return {
    async next() {
      if (!isFirst) program.child.stdin?.write('\n');
      isFirst = false;
      return (JSON.parse(await nextLine(program)) as { held: number }).held;
    },
    async end() {
      program.child.stdin?.write('\n');
      return JSON.parse(await nextLine(program)) as ClientReport;
    },
    [Symbol.asyncDispose]: async () => await endOf(program),
  };
}

const sourceAddresses = 8;

function clientArgs(workload: Workload, way: Way, { slots, ms, stages }: Amount): string[] {
  const sources = way.to.startsWith('127.') ? sourceAddresses : 0;
  const args = [
    workload,
    `to=${way.to}`,
    `name=${way.host}`,
    `connect=${way.connects ? 1 : 0}`,
    `sources=${sources}`,
  ];
  args.push(`slots=${slots}`);
  if (ms !== undefined) args.push(`ms=${ms}`);
  if (stages !== undefined) args.push(`stages=${stages.join(',')}`);
  return args;
}

interface Program {
  readonly child: ChildProcess;
  readonly lines: AsyncIterator<string>;
}

function start(program: keyof typeof programs, args: readonly string[]): Program {
  const child = spawn(join(build, program), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
}

const endLimitMs = 5000;

/** Waits until a program that was told to end has ended; makes it. Its sockets are gone then. */
async function endOf({ child }: Program): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.stdin?.end();
  const timer = setTimeout(() => child.kill('SIGKILL'), endLimitMs);
  await once(child, 'exit');
  clearTimeout(timer);
}

const lineLimitMs = 60_000;

/** A line that came before somebody asked is not lost. */
async function nextLine({ child, lines }: Program): Promise<string> {
  const timer = setTimeout(() => child.kill('SIGKILL'), lineLimitMs);
  const next = await lines.next();
  clearTimeout(timer);
  if (next.done === true) throw new Error(`the load generator ended early (status ${child.exitCode})`);
  return next.value;
}
