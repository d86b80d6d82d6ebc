// The place that the bench runs in: namespaces of its own (network, mounts, processes), with nothing but a loopback interface, and a public
// address on it. Leaves nothing behind: when the process that made it ends, the kernel ends everything in it.
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';

export interface World {
  /** Own folder for configurations, logs and policies; gone at the end. */
  readonly folder: string;
  /** The one host that every proxy allows among others, and where it leads. */
  readonly host: string;
  readonly address: string;
  readonly upstream: string;
  /** Every host on the allowlist of every proxy; `host` is in the middle. */
  readonly allowed: readonly string[];
  /** A hosts file that knows `host`. */
  readonly hosts: string;
  /** Most file descriptors of one process. */
  readonly descriptors: number;
}

const inside = 'SALLYPORT_BENCH_WORLD';
const host = 'upstream.bench.test';
// A public address, since no proxy with an address guard goes anywhere else. It is local by route and on no interface, so it is not
// one of the proxy host's own.
const address = '93.184.215.14';
const allowedHosts = 101;

/** True in the process that runs in the namespaces. */
export function isInside(): boolean {
  return process.env[inside] !== undefined;
}

// A sender that paces itself (BBR) is woken by a timer for each segment, in whoever sends: on a loopback that cost hides what proxies differ in.
// Ports: enough of them for both sides of every tunnel, and used again a second after they were closed.
const setUp = `
ulimit -n "$(ulimit -Hn)"
ip link set lo up
ip route add local ${address}/32 dev lo
sysctl -qw net.ipv4.ip_local_port_range='10000 65535' net.ipv4.tcp_tw_reuse=1 net.ipv4.tcp_congestion_control=reno
mount --bind "$1/hosts" /etc/hosts
shift
exec "$@"`;

/** Runs this same program in new namespaces. Resolves with its exit status. */
export async function enterWorld(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'));
  // Squid becomes a user of its own before it reads its lists.
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'hosts'), `127.0.0.1 localhost\n${address} ${host}\n`);
  try {
    return await runInside(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function runInside(folder: string): Promise<number> {
  const rights = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const namespaces = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const again = [process.execPath, ...process.argv.slice(1)];
  const child = spawn('unshare', [...rights, ...namespaces, 'sh', '-ec', setUp, 'sh', folder, ...again], {
    stdio: 'inherit',
    env: { ...process.env, [inside]: folder, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
  });
  // From a terminal the whole group hears it: the inner process ends, then this one.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => void child.kill('SIGKILL'));
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}

/** The world as it is seen from inside. */
export function describeWorld(): World {
  const folder = process.env[inside] ?? '';
  const others = Array.from({ length: allowedHosts - 1 }, (_, i) => `host-${i}.bench.test`);
  const descriptors = Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }));
  return {
    folder,
    host,
    address,
    upstream: `${address}:443`,
    allowed: others.toSpliced(others.length / 2, 0, host),
    hosts: join(folder, 'hosts'),
    descriptors,
  };
}
