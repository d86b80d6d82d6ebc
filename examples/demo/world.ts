// The demo's own small world: namespace `host` stands for your machine, namespace `internet` for everything outside it. Nothing in it can reach the real network.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A public-looking address, so that the address guard judges it as it would the real one. It exists only inside the demo. */
export const originAddress = '1.2.3.4';
const names = [
  'api.anthropic.com',
  'api.openai.com',
  'github.com',
  'api.github.com',
  'gist.github.com',
  'evil.example',
];

export interface World {
  readonly dir: string;
  /** Directory handed to the sandbox as its workspace. */
  readonly workspace: string;
  readonly host: string;
  readonly internet: string;
  readonly hostsFile: string;
  readonly caFile: string;
  /** Command and arguments that run `argv` with the network of the demo's host. */
  onHost(argv: readonly string[]): readonly [string, readonly string[]];
  close(): void;
}

/** Makes the namespaces, the link between them, a certificate authority and a git repository. Needs root. */
export function makeWorld(): World {
  const dir = mkdtempSync(join(tmpdir(), 'sallyport-demo-'));
  // The proxy reads the hosts file as nobody.
  chmodSync(dir, 0o711);
  const tag = process.pid.toString(36);
  const [host, internet] = [`spdemo-${tag}-host`, `spdemo-${tag}-net`];
  const world: World = {
    dir,
    workspace: join(dir, 'workspace'),
    host,
    internet,
    hostsFile: join(dir, 'hosts'),
    caFile: join(dir, 'workspace', 'ca.pem'),
    onHost: (argv) => ['nsenter', [`--net=/run/netns/${host}`, '--', ...argv]],
    close: () => {
      for (const name of [host, internet]) quietly(() => run('ip', ['netns', 'del', name]));
      rmSync(dir, { recursive: true, force: true });
    },
  };
  try {
    makeNamespaces(host, internet);
    makeFiles(world);
  } catch (error) {
    world.close();
    throw error;
  }
  return world;
}

function makeNamespaces(host: string, internet: string): void {
  for (const name of [host, internet]) {
    run('ip', ['netns', 'add', name]);
    run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  }
  run('ip', [
    '-n',
    host,
    'link',
    'add',
    'uplink',
    'type',
    'veth',
    'peer',
    'name',
    'uplink',
    'netns',
    internet,
  ]);
  run('ip', ['-n', host, 'addr', 'add', '10.98.0.1/30', 'dev', 'uplink']);
  run('ip', ['-n', internet, 'addr', 'add', '10.98.0.2/30', 'dev', 'uplink']);
  for (const name of [host, internet]) run('ip', ['-n', name, 'link', 'set', 'uplink', 'up']);
  run('ip', ['-n', host, 'route', 'add', 'default', 'via', '10.98.0.2']);
  // Every address is local there: one namespace plays the whole Internet, and would notice whatever escaped.
  run('ip', ['-n', internet, 'route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo']);
  run('ip', ['-n', internet, 'route', 'add', '10.219.0.0/16', 'via', '10.98.0.1']);
  // The host forwards, so that it is the fence that stops packets and not a switched-off router.
  run('nsenter', [`--net=/run/netns/${host}`, 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
}

function makeFiles(world: World): void {
  mkdirSync(world.workspace);
  chownSync(world.workspace, 1000, 1000);
  writeFileSync(
    world.hostsFile,
    ['127.0.0.1 localhost', ...names.map((name) => `${originAddress} ${name}`), ''].join('\n'),
  );
  makeCertificates(world.dir, world.caFile);
  makeRepository(join(world.dir, 'git', 'demo', 'project.git'), join(world.dir, 'seed'));
}

function makeCertificates(dir: string, caFile: string): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const at = (name: string): string => join(dir, name);
  const constraints = [
    '-addext',
    'basicConstraints=critical,CA:TRUE',
    '-addext',
    'keyUsage=critical,keyCertSign',
  ];
  run('openssl', [
    'req',
    '-x509',
    ...key,
    '-keyout',
    at('ca.key'),
    '-out',
    caFile,
    '-days',
    '2',
    '-subj',
    '/CN=Sallyport demo CA',
    ...constraints,
  ]);
  run('openssl', [
    'req',
    ...key,
    '-keyout',
    at('origin.key'),
    '-out',
    at('origin.csr'),
    '-subj',
    '/CN=origin',
  ]);
  writeFileSync(
    at('origin.ext'),
    `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}\nextendedKeyUsage=serverAuth\n`,
  );
  const sign = [
    '-CA',
    caFile,
    '-CAkey',
    at('ca.key'),
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    at('origin.ext'),
  ];
  run('openssl', ['x509', '-req', '-in', at('origin.csr'), ...sign, '-out', at('origin.pem')]);
}

function makeRepository(bare: string, seed: string): void {
  const author = ['-c', 'user.name=demo', '-c', 'user.email=demo@sallyport.example'];
  run('git', ['init', '-q', '--bare', '-b', 'main', bare]);
  run('git', ['-C', bare, 'config', 'http.receivepack', 'true']);
  run('git', ['init', '-q', '-b', 'main', seed]);
  writeFileSync(join(seed, 'README.md'), 'a project\n');
  run('git', ['-C', seed, 'add', '.']);
  run('git', ['-C', seed, ...author, 'commit', '-qm', 'first']);
  run('git', ['-C', seed, 'push', '-q', bare, 'main']);
}

/** Starts the origin in the `internet` namespace and waits until it listens. */
export async function startOrigin(world: World): Promise<Origin> {
  const script = join(import.meta.dirname, 'origin.ts');
  const child = spawn(
    'nsenter',
    [`--net=/run/netns/${world.internet}`, process.execPath, script, world.dir],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  const seen: Sighting[] = [];
  let rest = '';
  let settled = (): void => {};
  await new Promise<void>((resolve, reject) => {
    child.once('exit', () => reject(new Error('the demo origin did not start')));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line === 'ready') resolve();
        else if (line === 'settled') settled();
        else seen.push(JSON.parse(line) as Sighting);
      }
    });
  });
  return {
    seen,
    child,
    settle: async () => {
      // Twice: what was still to be accepted when the first question came is reported before the second answer.
      for (let round = 0; round < 2; round += 1) {
        const answered = new Promise<void>((resolve) => {
          settled = resolve;
        });
        child.stdin.write('\n');
        await answered;
      }
    },
  };
}

export interface Origin {
  /** Everything that reached the `internet` namespace, in order. */
  readonly seen: readonly Sighting[];
  readonly child: ChildProcess;
  /** Resolves when everything that had arrived is in `seen`. */
  settle(): Promise<void>;
}

/** One connection or datagram that reached the outside: where it was headed, the server name if it spoke TLS, and what it asked. */
export interface Sighting {
  readonly what: 'connection' | 'request' | 'datagram';
  readonly to: string;
  readonly name?: string;
  readonly path?: string;
}

function run(command: string, args: readonly string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function quietly(action: () => void): void {
  try {
    action();
  } catch {
    // Closing goes on: what is not there any more need not be removed.
  }
}
