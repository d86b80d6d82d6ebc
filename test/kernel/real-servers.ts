// PostgreSQL, Redis and sshd as Debian has them, started by hand in a namespace of a test, as nobody. No test by itself.
import { chmodSync, chownSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, type Netns, type Output, type Running } from '../helpers/netns.ts';

const nobody = 65534;
const asNobody = ['setpriv', '--reuid', String(nobody), '--regid', String(nobody), '--clear-groups'];
const env = { PATH: '/usr/bin:/bin:/usr/sbin', LC_ALL: 'C' };

/** Where a server is, and what it says of itself. */
export interface Database {
  readonly name: string;
  readonly address: string;
}

/** Where Debian keeps the programs of its newest PostgreSQL; undefined without one. */
export function postgresPrograms(): string | undefined {
  const versions = '/usr/lib/postgresql';
  try {
    const [newest] = readdirSync(versions).toSorted((a, b) => Number(b) - Number(a));
    return newest === undefined ? undefined : join(versions, newest, 'bin');
  } catch {
    return undefined;
  }
}

/** One on port 5432 of each address; user `agent`, password `password`, and each knows its own name as `cluster_name`. */
export async function startPostgres(
  ns: Netns,
  dir: string,
  password: string,
  databases: readonly Database[],
): Promise<void> {
  const bin = postgresPrograms() ?? '';
  const home = ownDirectory(dir, 'postgres');
  const file = join(home, 'password');
  writeFileSync(file, password);
  chownSync(file, nobody, nobody);
  const template = join(home, 'template');
  const made = ['--no-sync', '--username=agent', '--auth=scram-sha-256', `--pwfile=${file}`];
  await must([...asNobody, join(bin, 'initdb'), '-D', template, '--locale=C', ...made]);
  writeFileSync(join(template, 'pg_hba.conf'), 'host all agent 0.0.0.0/0 scram-sha-256\n');
  await Promise.all(
    databases.map(async ({ name, address }) => {
      const data = join(home, name);
      await must(['cp', '-a', template, data]);
      const told = [`listen_addresses=${address}`, `cluster_name=${name}`, `unix_socket_directories=${data}`];
      const options = [...told, 'fsync=off', 'shared_buffers=1MB'].flatMap((one) => ['-c', one]);
      const server = startSaying(ns, [...asNobody, join(bin, 'postgres'), '-D', data, ...options]);
      await server.line((line) => line.includes('ready to accept connections'));
    }),
  );
}

/** On port 6379 of `address`. */
export async function startRedis(ns: Netns, dir: string, address: string): Promise<void> {
  const home = ownDirectory(dir, 'redis');
  const options = ['--bind', address, '--protected-mode', 'no', '--save', '', '--dir', home];
  const server = startSaying(ns, [...asNobody, 'redis-server', ...options]);
  await server.line((line) => line.includes('Ready to accept connections'));
}

/** What a client needs to log in at an sshd. */
export interface Login {
  /** Private key, to be read by uid 1000 alone. */
  readonly key: string;
  readonly knownHosts: string;
}

/** On port 22 of `address`, for the user `git`, whose home holds the repository `repo.git` with one file. Files for the client go to `workspace`. */
export async function startSshd(
  ns: Netns,
  dir: string,
  { address, alias, workspace }: { address: string; alias: string; workspace: string },
): Promise<Login> {
  const home = ownDirectory(dir, 'git');
  const login = { key: join(workspace, 'id'), knownHosts: join(workspace, 'known_hosts') };
  const hostKey = join(home, 'host_key');
  for (const file of [hostKey, login.key])
    await must(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', file]);
  for (const [file, id] of [
    [hostKey, nobody],
    [login.key, 1000],
  ] as const)
    chownSync(file, id, id);
  await must(['sh', '-c', `cp "${login.key}.pub" "${home}/authorized_keys"`]);
  await must(['sh', '-c', `echo "${alias} $(cat "${hostKey}.pub")" > "${login.knownHosts}"`]);
  // An sshd that is not root lets in its own user only, who must have a shell: a passwd file for this one process.
  const passwd = join(home, 'passwd');
  await must([
    'sh',
    '-c',
    `sed "s|^nobody:.*|git:x:${nobody}:${nobody}::${home}:/bin/sh|" /etc/passwd > ${passwd}`,
  ]);
  const build =
    'git init -q -b main work && cd work && echo cloned > file && git add file && git -c user.name=t -c user.email=t@t.test commit -qm one && git clone -q --bare . ../repo.git';
  await must([...asNobody, 'env', `HOME=${home}`, 'sh', '-c', `cd ${home} && ${build}`]);
  const config = join(home, 'sshd_config');
  const lines = [
    `ListenAddress ${address}`,
    `HostKey ${hostKey}`,
    `AuthorizedKeysFile ${home}/authorized_keys`,
    'PidFile none',
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  // Only in this namespace: a user may have port 22.
  await ns.must(['sysctl', '-qw', 'net.ipv4.ip_unprivileged_port_start=0']);
  const script = 'mount --bind "$1" /etc/passwd && shift && exec "$@"';
  const words = [...asNobody, '/usr/sbin/sshd', '-D', '-e', '-f', config];
  const server = startSaying(ns, ['unshare', '-m', 'sh', '-c', script, 'sh', passwd, ...words]);
  await server.line((line) => line.includes('Server listening'));
  return login;
}

function ownDirectory(dir: string, name: string): string {
  const path = join(dir, name);
  mkdirSync(path);
  chmodSync(path, 0o755);
  chownSync(path, nobody, nobody);
  return path;
}

/** Its stderr is heard as its stdout is. */
function startSaying(ns: Netns, argv: readonly string[]): Running {
  return ns.start(['sh', '-c', 'exec "$@" 2>&1', 'sh', ...argv], env);
}

async function must(argv: readonly string[]): Promise<Output> {
  const output = await run(argv, { env, timeoutMs: 60_000 });
  if (output.code !== 0) throw new Error(`\`${argv.join(' ')}\`: ${output.stderr}${output.stdout}`);
  return output;
}
