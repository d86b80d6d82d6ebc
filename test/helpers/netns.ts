// Makes network namespaces for a test and takes them away again, with every process in them. Never touches the machine's own namespace:
// links are made inside a namespace of the test, and their other end is moved from there.
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

interface Tearable {
  teardown(handler: () => Promise<void>): void;
}

/** What a finished command said. `code` is null when a signal ended it. */
export interface Output {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Text for the command's stdin; default: nothing. */
  readonly input?: string;
  /** Milliseconds after which the command is killed; default 60,000: on a machine with a load of 20 a start takes many seconds. */
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
}

/** A command that goes on running in a namespace: a server, a sniffer. */
export interface Running {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  /** Every line of its stdout so far. */
  readonly lines: readonly string[];
  /** Resolves with the first line that satisfies `wanted`, seen already or still to come; rejects when the command ends first, or after 60 s. */
  line(wanted: (line: string) => boolean): Promise<string>;
  stop(): Promise<void>;
}

export interface Netns {
  readonly name: string;
  /** Words that run what follows inside: `nsenter --net=/run/netns/NAME --`. */
  readonly enter: readonly string[];
  /** Runs to the end; a non-zero exit is an answer, not an error. */
  run(argv: readonly string[], options?: RunOptions): Promise<Output>;
  /** Runs a set-up step: its stdout; rejects on a non-zero exit. */
  must(argv: readonly string[], options?: RunOptions): Promise<string>;
  /** Starts a command that keeps running; it dies with the namespace. */
  start(argv: readonly string[], env?: NodeJS.ProcessEnv): Running;
  /** Resolves when something in here listens on that port. */
  listening(port: number, protocol?: 'tcp' | 'udp'): Promise<void>;
}

/** A new namespace with `lo` up; killed and deleted in the teardown of `t`. `label` helps to recognise it (`ip netns`). */
export async function makeNetns(t: Tearable, label: string): Promise<Netns> {
  const name = `spt-${label}-${randomBytes(3).toString('hex')}`;
  await must(['ip', 'netns', 'add', name]);
  t.teardown(() => destroy(name));
  const enter = ['nsenter', `--net=/run/netns/${name}`, '--'];
  const ns: Netns = {
    name,
    enter,
    run: (argv, options) => run([...enter, ...argv], options),
    must: (argv, options) => must([...enter, ...argv], options),
    start: (argv, env) => start([...enter, ...argv], env),
    listening: (port, protocol) => untilListening(ns, port, protocol ?? 'tcp'),
  };
  await ns.must(['ip', 'link', 'set', 'lo', 'up']);
  return ns;
}

/** One end of a link: the namespace, the interface's name in it, its addresses with prefix length. */
export interface LinkEnd {
  readonly ns: Netns;
  readonly dev: string;
  readonly addresses: readonly string[];
}

/** A veth pair between two namespaces, both ends up, IPv6 addresses usable at once (no duplicate address detection). */
export async function makeLink(a: LinkEnd, b: LinkEnd): Promise<void> {
  await a.ns.must(['ip', 'link', 'add', a.dev, 'type', 'veth', 'peer', 'name', b.dev, 'netns', b.ns.name]);
  for (const end of [a, b]) {
    for (const address of end.addresses) {
      const nodad = address.includes(':') ? ['nodad'] : [];
      await end.ns.must(['ip', 'addr', 'add', address, 'dev', end.dev, ...nodad]);
    }
    await end.ns.must(['ip', 'link', 'set', end.dev, 'up']);
  }
}

async function destroy(name: string): Promise<void> {
  const { stdout } = await run(['ip', 'netns', 'pids', name]);
  for (const pid of stdout.split('\n').filter(Boolean)) kill(Number(pid));
  await run(['ip', 'netns', 'del', name]);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended between the listing and the kill: that is what was wanted.
  }
}

async function must(argv: readonly string[], options?: RunOptions): Promise<string> {
  const { code, stdout, stderr } = await run(argv, options);
  if (code !== 0) throw new Error(`\`${argv.join(' ')}\` ended with ${code ?? 'a signal'}: ${stderr.trim()}`);
  return stdout;
}

/** Runs a command to its end, outside of any namespace unless `argv` enters one. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Output> {
  const [program = '', ...args] = argv;
  const timeout = options.timeoutMs ?? 60_000;
  const child = spawn(program, args, { stdio: 'pipe', timeout, killSignal: 'SIGKILL', env: options.env });
  child.stdin.on('error', () => {}); // a command may end without reading its input
  child.stdin.end(options.input ?? '');
  const [stdout, stderr, [code]] = await Promise.all([
    collect(child.stdout),
    collect(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { code, stdout, stderr };
}

async function collect(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function start(argv: readonly string[], env?: NodeJS.ProcessEnv): Running {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'], env });
  child.on('error', () => {});
  child.stdin.on('error', () => {});
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout });
  reader.on('line', (line) => lines.push(line));
  return {
    child,
    lines,
    line: (wanted) => firstLine(reader, lines, wanted, argv.join(' ')),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'close');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function firstLine(
  reader: Interface,
  lines: readonly string[],
  wanted: (line: string) => boolean,
  what: string,
): Promise<string> {
  const seen = lines.find(wanted);
  if (seen !== undefined) return seen;
  return await new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new Error(`\`${what}\` ${why} before the awaited line`));
    const deadline = setTimeout(() => fail('took 60 s'), 60_000);
    reader.on('line', (line) => {
      if (!wanted(line)) return;
      clearTimeout(deadline);
      resolve(line);
    });
    reader.on('close', () => {
      clearTimeout(deadline);
      fail('ended');
    });
  });
}

/** The kernel offers no event for "a socket listens", so this asks again until it does; gives up after a minute. */
async function untilListening(ns: Netns, port: number, protocol: 'tcp' | 'udp'): Promise<void> {
  const flags = protocol === 'tcp' ? '-Hltn' : '-Hlun';
  for (let attempt = 0; attempt < 3000; attempt += 1) {
    const { stdout } = await ns.run(['ss', flags, `sport = :${port}`]);
    if (stdout.trim() !== '') return;
    await delay(20);
  }
  throw new Error(`nothing listens on ${protocol} ${port} in ${ns.name}`);
}
