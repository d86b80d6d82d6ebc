// A small world for runner tests: namespace `host` plays the machine, `outside` plays the Internet and would notice whatever escaped.
// Every address is local outside, so nothing here can reach a real network.
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GateRecord } from '../../container/gate/index.ts';
import { createNft, readDrops } from '../../nft/index.ts';
import { makeLink, makeNetns, run, type Netns, type Output, type Running } from '../helpers/netns.ts';

interface Tearable {
  teardown(handler: () => void | Promise<void>): void;
}

/** What `sallyport run` starts on this machine. */
const runNeeds = ['root', 'netns', 'nft', 'ip', 'setpriv', 'unshare', 'nsenter'] as const;

/** What the gate's probes need, with no run around them. */
export const gateNeeds = [...runNeeds, 'ipv6'] as const;

/** What every test of a run in this world needs: the programs of the world and those that commands in it call. */
export const worldNeeds = [
  ...runNeeds,
  'ping',
  'curl',
  'nc',
  'openssl',
  'tcpdump',
  'bash',
  'perl',
  'findmnt',
  'pgrep',
] as const;

/** What a run printed on its last line of stderr, as far as tests look at it. */
export interface Report {
  readonly run: string;
  readonly status: number;
  readonly ended: string;
  readonly message: string | null;
  readonly help: string | null;
  readonly enforcement: string | null;
  readonly policy: string | null;
  readonly audit: string;
  readonly startSeconds: number | null;
  readonly drops: Readonly<Record<string, number>>;
  readonly denied: {
    readonly total: number;
    readonly most: readonly { readonly host: string; readonly reason: string; readonly count: number }[];
  };
  readonly gate: GateRecord | null;
  readonly events: readonly { readonly event: string; readonly message: string }[];
}

export interface RunOutput extends Output {
  readonly report: Report;
}

export interface World {
  readonly host: Netns;
  readonly outside: Netns;
  readonly dir: string;
  /** State directory of the runs. */
  readonly state: string;
  /** Writable for the sandbox; holds `ca.pem`. */
  readonly workspace: string;
  /** A public-looking address at which the outside serves TLS. */
  readonly address: string;
  /** `word` (at most 9 characters) as a run name that no other world has. */
  name(word: string): string;
  /** Options that every run of the tests needs. */
  readonly options: readonly string[];
  /** Runs `sallyport run --json OPTIONS ...` on the host, to its end. */
  sallyport(
    options: readonly string[],
    command: readonly string[],
    env?: NodeJS.ProcessEnv,
  ): Promise<RunOutput>;
  /** Starts it and does not wait; `around` are words put before it. */
  start(options: readonly string[], command: readonly string[], around?: readonly string[]): StartedRun;
  /** Watches for packets from or to the address pool, and for any DNS: outside, or at the host's end of every link. */
  capture(where?: 'outside' | 'host'): Promise<Capture>;
  /** Drops the kernel has counted for a run, by class. */
  drops(run: string): Promise<ReadonlyMap<string, number>>;
}

export interface StartedRun {
  readonly child: ChildProcess;
  readonly lines: readonly string[];
  /** The first line of stdout or stderr that contains `part`. */
  line(part: string): Promise<string>;
  readonly ended: Promise<number | null>;
}

export interface Capture {
  /** Stops and gives the lines of tcpdump. */
  stop(): Promise<readonly string[]>;
}

const root = join(import.meta.dirname, '../..');
const main = join(root, 'container/main.ts');
const address = '1.2.3.4';
const names = ['good.test', 'also.test', 'bad.test'];

export const policy = {
  version: 1,
  allow: [
    { id: 'allow/good.test', host: 'good.test', reason: 'the origin of the test' },
    { id: 'allow/also.test', host: 'also.test', reason: 'another listed name' },
  ],
};

/** Builds it all, and takes it away in the teardown of `t`. `opaque` are ports on which the outside serves something that is no TLS. */
export async function makeWorld(t: Tearable, opaque: readonly number[] = [5432, 5433]): Promise<World> {
  const dir = mkdtempSync(join(tmpdir(), 'sallyport-kernel-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  chmodSync(dir, 0o711);
  const tag = randomBytes(2).toString('hex').slice(0, 3);
  const state = join(dir, 'state');
  const environment = { ...process.env, SALLYPORT_STATE_DIR: state };
  // A test that failed half-way may have left a run; by the time this is done its host is gone.
  t.teardown(async () => void (await run([process.execPath, main, 'reclaim'], { env: environment })));
  const workspace = join(dir, 'workspace');
  mkdirSync(workspace);
  chownSync(workspace, 1000, 1000);
  const host = await makeNetns(t, 'host');
  const outside = await makeNetns(t, 'outside');
  await wire(host, outside);
  const ca = join(workspace, 'ca.pem');
  await makeCertificate(dir, ca);
  const files = [ca, join(dir, 'key.pem')];
  const origin = outside.start([process.execPath, '-e', originCode, ...files, ...opaque.map(String)]);
  await origin.line((line) => line === 'listening');
  const hosts = [...names.map((name) => `${address} ${name}\n`), '10.98.0.2 private.test\n'];
  writeFileSync(join(dir, 'hosts'), hosts.join(''));
  writeFileSync(join(dir, 'policy.json'), JSON.stringify(policy));
  const options = [
    '--policy',
    join(dir, 'policy.json'),
    '--hosts',
    join(dir, 'hosts'),
    '--resolver',
    `${address}:53`,
  ];
  return {
    host,
    outside,
    dir,
    state,
    workspace,
    address,
    name: (word) => `${word}${tag}`,
    options,
    sallyport: async (extra, command, env = {}) =>
      readReport(
        await host.run([process.execPath, main, 'run', '--json', ...options, ...extra, '--', ...command], {
          env: { ...environment, ...env },
          timeoutMs: 60_000,
        }),
      ),
    start: (extra, command, around = []) => {
      const program = [...host.enter, ...around, process.execPath, main, 'run'];
      const argv = [...program, ...options, ...extra, '--', ...command];
      const started = startRun(argv, environment);
      t.teardown(() => void started.child.kill('SIGKILL'));
      return started;
    },
    capture: async (where = 'outside') =>
      await (where === 'host' ? startCapture(host, 'any') : startCapture(outside, 'up0')),
    drops: async (name) => await readDrops(createNft({ enter: host.enter }), `sallyport_${name}`),
  };
}

async function wire(host: Netns, outside: Netns): Promise<void> {
  await makeLink(
    { ns: host, dev: 'up0', addresses: ['10.98.0.1/30'] },
    { ns: outside, dev: 'up0', addresses: ['10.98.0.2/30'] },
  );
  await host.must(['ip', 'route', 'add', 'default', 'via', '10.98.0.2']);
  await outside.must(['ip', 'route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo']);
  await outside.must(['ip', 'route', 'add', '10.219.0.0/16', 'via', '10.98.0.1']);
  // The host forwards: it is the fence that stops packets, not a switched-off router.
  await host.must(['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
}

/** TLS on 443, and on the other ports something that is no TLS, for services. Ends with its stdin: a test that was killed leaves none behind. */
const originCode = `
process.stdin.resume().on('close', () => process.exit())
const fs = require('node:fs'), [, cert, key, ...ports] = process.argv
const tls = require('node:tls').createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, s => {
  s.on('error', () => {}); s.once('data', () => s.end('HTTP/1.1 200 OK\\r\\ncontent-length: 6\\r\\nconnection: close\\r\\n\\r\\norigin'))
})
tls.on('tlsClientError', () => {})
const opaque = port => new Promise(done => require('node:net').createServer(s => { s.on('error', () => {}); s.write('service\\n'); s.pipe(s) }).listen(port, '0.0.0.0', done))
tls.listen(443, '0.0.0.0', () => Promise.all(ports.map(opaque)).then(() => console.log('listening')))
`;

async function makeCertificate(dir: string, file: string): Promise<void> {
  const key = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    join(dir, 'key.pem'),
  ];
  const alt = `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`;
  const { code, stderr } = await run([
    'openssl',
    'req',
    '-x509',
    ...key,
    '-out',
    file,
    '-days',
    '2',
    '-subj',
    '/CN=test',
    '-addext',
    alt,
  ]);
  if (code !== 0) throw new Error(stderr);
}

function readReport(output: Output): RunOutput {
  const last = output.stderr.trim().split('\n').at(-1) ?? '';
  if (last.startsWith('{')) return { ...output, report: JSON.parse(last) as Report };
  const report = {
    run: '',
    status: -1,
    ended: '',
    message: last,
    help: null,
    enforcement: null,
    policy: null,
    denied: { total: 0, most: [] },
    audit: '',
    startSeconds: null,
  };
  return { ...output, report: { ...report, drops: {}, gate: null, events: [] } };
}

function startRun([program = '', ...args]: readonly string[], env: NodeJS.ProcessEnv): StartedRun {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      lines.push(...parts);
      for (const wake of waiting) wake();
    });
  }
  const ended = once(child, 'close').then(([code]: (number | null)[]) => code ?? null);
  const find = (part: string): string | undefined => lines.find((line) => line.includes(part));
  return {
    child,
    lines,
    ended,
    line: async (part) =>
      await new Promise((resolve, reject) => {
        const look = (): void => {
          const found = find(part);
          if (found !== undefined) resolve(found);
        };
        waiting.add(look);
        look();
        void ended.then(() => reject(new Error(`ended before \`${part}\`: ${lines.join('\n')}`)));
      }),
  };
}

async function startCapture(ns: Netns, dev: string): Promise<Capture> {
  const filter = 'src net 10.219.0.0/16 or dst net 10.219.0.0/16 or udp port 53';
  const sniffer: Running = ns.start([
    'sh',
    '-c',
    'exec tcpdump -l -n --immediate-mode -i "$1" "$2" 2>&1',
    'sh',
    dev,
    filter,
  ]);
  await sniffer.line((line) => line.includes('listening on'));
  return {
    async stop() {
      sniffer.child.kill('SIGINT');
      await once(sniffer.child, 'close');
      return sniffer.lines.filter((line) => / IP6? /.test(line));
    },
  };
}
