// Runs a command with util-linux alone: always there, no daemon, no image. The file system is built by setup.sh; this file starts and ends it.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { findTool } from '../preflight.ts';
import { killRun, signal } from '../processes.ts';
import type { Availability, Backend, Ended, RunningCommand, RunSpec } from './types.ts';

/** Where the tools are looked for: not in the caller's PATH, which may start with a directory of somebody else's. */
const toolPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin';
const needed = ['setpriv', 'nsenter', 'unshare', 'mount', 'umount', 'pivot_root', 'chroot', 'sh'] as const;

/** The embedded default: own mount, pid, ipc and uts namespaces over a read-only system. No seccomp filter and no resource limits. */
export const unshare: Backend = {
  name: 'unshare',
  available: async () => await Promise.resolve(availability()),
  start,
  async reclaim(run) {
    if (run.sandboxNetns !== null) await killRun(run.sandboxNetns, run.id);
  },
};

function availability(): Availability {
  const missing = needed.filter((name) => findTool(name, toolPath) === undefined);
  if (missing.length === 0) return { ok: true };
  return { ok: false, problem: `${missing.join(', ')} not found`, help: 'install util-linux and coreutils' };
}

async function start(spec: RunSpec): Promise<RunningCommand> {
  const stage = join(spec.directory, 'root');
  const files = join(spec.directory, 'etc');
  await mkdir(stage);
  await writeEtc(files, spec);
  const child = launch(spec, stage, files);
  const ended = watchEnd(child);
  const control = child.stdio[3];
  if (!isDuplex(control)) throw new Error('descriptor 3 of the sandbox is not a socket');
  control.on('error', () => undefined);
  return {
    ended,
    begin: async () => await begin(control, ended),
    terminate: async (graceMs) => await terminate(child, ended, graceMs),
  };
}

/** Own session: a ctrl-c at the terminal reaches the runner alone, and the command has no terminal to push input into. */
function launch(spec: RunSpec, stage: string, files: string): ChildProcess {
  const here = import.meta.dirname;
  const setup = [
    'sh',
    join(here, 'setup.sh'),
    stage,
    files,
    join(here, '..', 'entry.sh'),
    spec.told ?? '',
    spec.workspace?.path ?? '',
    spec.workspace?.identity ?? '',
  ];
  const namespaces = [
    '--mount',
    '--pid',
    '--ipc',
    '--uts',
    '--fork',
    '--kill-child',
    '--propagation',
    'private',
  ];
  const ids = [String(spec.uid), String(spec.gid)];
  return spawn(
    'setpriv',
    [
      '--pdeathsig',
      'KILL',
      'nsenter',
      `--net=${spec.netnsPath}`,
      'unshare',
      ...namespaces,
      ...setup,
      ...ids,
      ...spec.command,
    ],
    {
      stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
      detached: true,
      cwd: '/',
      env: chainEnvironment(spec),
    },
  );
}

/** Tools get their own PATH; the command's variables travel under a prefix that entry.sh takes off inside. */
function chainEnvironment(spec: RunSpec): NodeJS.ProcessEnv {
  const wrapped = [...spec.environment].map(([name, value]) => [`SPENV_${name}`, value] as const);
  return {
    PATH: toolPath,
    SALLYPORT_RUN: spec.id,
    SALLYPORT_NAMES: [...spec.environment.keys()].join(' '),
    ...Object.fromEntries(wrapped),
  };
}

async function writeEtc(directory: string, spec: RunSpec): Promise<void> {
  await mkdir(directory);
  const hosts = spec.hosts.map((alias) => `${alias.address} ${alias.names.join(' ')}\n`).join('');
  const files: Record<string, string> = {
    passwd: `root:x:0:0::/:/usr/sbin/nologin\nagent:x:${spec.uid}:${spec.gid}::/home/agent:/bin/sh\n`,
    group: `root:x:0:\nagent:x:${spec.gid}:\n`,
    hosts: `127.0.0.1 localhost sandbox\n${hosts}`,
    'resolv.conf':
      spec.resolver === null ? '' : `nameserver ${spec.resolver}\noptions timeout:2 attempts:2\n`,
    'nsswitch.conf': `passwd: files\ngroup: files\nshadow: files\nhosts: files${spec.resolver === null ? '' : ' dns'}\nservices: files\nprotocols: files\n`,
  };
  for (const [name, text] of Object.entries(files))
    await writeFile(join(directory, name), text, { mode: 0o644 });
}

async function watchEnd(child: ChildProcess): Promise<Ended> {
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, name) => {
      resolve({ status: code ?? 128 + (name === null ? 0 : constants.signals[name]) });
    });
  });
}

async function begin(control: Duplex, ended: Promise<Ended>): Promise<void> {
  const lines = createInterface({ input: control });
  const ready = new Promise<boolean>((resolve) => {
    lines.once('line', (line) => resolve(line === 'ready'));
    lines.once('close', () => resolve(false));
  });
  if (!(await ready)) {
    const { status } = await ended;
    throw new Error(`the sandbox ended with status ${status} before its command`);
  }
  control.end('go\n');
}

async function terminate(child: ChildProcess, ended: Promise<Ended>, graceMs: number): Promise<void> {
  const settled = ended.then(
    () => true,
    () => true,
  );
  for (const pid of await commandPids(child.pid)) signal(pid, 'SIGTERM');
  if (await Promise.race([settled, delay(graceMs, false, { ref: false })])) return;
  // `unshare` goes down, its child (pid 1) follows by parent-death signal, and the kernel kills the rest of the pid namespace.
  child.kill('SIGKILL');
  for (const pid of await childrenOf(child.pid)) signal(pid, 'SIGKILL');
  await settled;
}

/** Children of the sandbox's pid 1: TERM to pid 1 itself would be dropped by the kernel, as it has no handler. */
async function commandPids(unsharePid: number | undefined): Promise<readonly number[]> {
  const inits = await childrenOf(unsharePid);
  return (await Promise.all(inits.map(childrenOf))).flat();
}

async function childrenOf(pid: number | undefined): Promise<readonly number[]> {
  if (pid === undefined) return [];
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text
    .split(' ')
    .filter((word) => word !== '')
    .map(Number);
}

function isDuplex(stream: unknown): stream is Duplex {
  return stream !== null && typeof stream === 'object' && 'end' in stream && 'read' in stream;
}
