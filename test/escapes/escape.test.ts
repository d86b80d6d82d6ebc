// A hostile command inside a sandbox tries to get rid of its walls. Each attempt must fail, and the fence must be whole afterwards.
import { createServer } from 'node:net';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../helpers/needs.ts';
import { makeWorld, worldNeeds } from '../kernel/world.ts';

/** One thing an agent might try; it has won when the shell line ends with 0. `why` says what would be lost. */
interface Attempt {
  readonly line: string;
  readonly why: string;
}

/** The attempt has won with one path for which `verb` works, whatever the others are. */
const any = (verb: string, paths: string): string =>
  `for p in ${paths}; do ${verb} "$p" && exit 0; done; exit 1`;

/** Ends with 0 when somebody listens there. */
const connectTo = (path: string): string =>
  `perl -MIO::Socket::UNIX -e 'exit(IO::Socket::UNIX->new(Peer => shift) ? 0 : 1)' ${path}`;

interface Secrets {
  readonly state: string;
  readonly host: string;
  /** Sockets of daemons on the host. */
  readonly sockets: readonly string[];
}

const attempts = (secrets: Secrets): readonly Attempt[] => [
  { line: 'nft flush ruleset', why: 'it would remove a fence in its own namespace' },
  { line: 'nft list ruleset', why: 'it would read one' },
  { line: 'ip route add default via $GATEWAY', why: 'it would give itself a route' },
  { line: 'ip addr add 10.219.255.2/30 dev eth0', why: 'it would take another address' },
  { line: 'ip link set eth0 down', why: 'it owns no link' },
  { line: 'ip link add d0 type veth', why: 'it would make a link' },
  { line: 'sysctl -w net.ipv6.conf.all.disable_ipv6=0', why: 'it would turn IPv6 on' },
  { line: 'echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6', why: 'likewise' },
  { line: 'unshare -n true', why: 'a namespace of its own' },
  { line: 'unshare -Ur true', why: 'root in a user namespace' },
  { line: 'unshare -Urn true', why: 'root over its own network' },
  { line: 'unshare -m true', why: 'its own mounts' },
  { line: 'nsenter -t 1 -n true', why: 'joining by pid 1' },
  { line: 'mount -t tmpfs x /tmp', why: 'mounting' },
  { line: 'mount -o remount,rw /usr', why: 'writing to the system' },
  { line: 'umount /proc', why: 'unmounting' },
  { line: 'chroot / true', why: 'leaving the root' },
  { line: 'mknod /tmp/sda b 8 0', why: 'a disk' },
  { line: any('cat', '/dev/mem /dev/kmsg /dev/sda /dev/vda'), why: 'devices of the host' },
  { line: "perl -MSocket -e 'socket(my $s,PF_INET,SOCK_RAW,1) or exit 1'", why: 'raw sockets' },
  { line: "perl -e 'socket(my $s,17,3,0x300) or exit 1'", why: 'packet sockets' },
  {
    line: "perl -e 'exit(syscall(101,16,1,0,0)==0 ? 0 : 1)'",
    why: 'tracing pid 1 (ptrace attach on x86-64)',
  },
  { line: 'cat /proc/1/environ', why: "pid 1's memory" },
  { line: 'ls -l /proc/1/fd/', why: "pid 1's descriptors" },
  { line: 'cat /run/sallyport/init', why: 'the unreadable shell that keeps pid 1 untraced' },
  { line: 'echo b > /proc/sysrq-trigger', why: 'rebooting' },
  { line: 'echo x > /proc/sys/kernel/core_pattern', why: 'a program of the host run as root' },
  { line: 'reboot -f', why: 'rebooting' },
  { line: 'kill -KILL 1; ! kill -0 1', why: 'its own first process' },
  { line: 'su -c true', why: 'set-uid programs' },
  { line: 'sudo -n true', why: 'set-uid programs' },
  { line: 'setpriv --reuid 0 true', why: 'becoming root' },
  { line: `cat ${secrets.state}/runs/*/run.json`, why: 'the state of runs' },
  { line: `cat ${secrets.state}/runs/*/policy/policy.json`, why: 'the policy in force' },
  { line: `echo '{}' > ${secrets.state}/runs/*/policy/policy.json`, why: 'writing the policy' },
  { line: `cat ${secrets.host}`, why: 'a file of the host' },
  { line: any('cat', '/etc/shadow /root/.* /home/*/.ssh/*'), why: 'secrets of the host' },
  ...secrets.sockets.map((path) => ({ line: connectTo(path), why: `a daemon of the host at ${path}` })),
  {
    line: any(
      'test -e',
      '/var/lib/* /run/dbus /run/systemd /run/docker.sock /run/podman /nix/var /tmp/.X11-unix /run/nscd',
    ),
    why: 'sockets of the host',
  },
  { line: any('ls', '/old /proc/1/root/old'), why: 'the old root' },
  { line: 'cd /proc/self/cwd/../../../../.. && ls old usr/../root/usr', why: 'the level above its root' },
  {
    line: 'echo x > /usr/bin/sh || echo x > /etc/hosts || echo x > /run/sallyport/entry.sh',
    why: 'changing what runs',
  },
  { line: 'echo > /dev/tty', why: "pushing input into the caller's terminal" },
  { line: 'test -e /proc/self/fd/3', why: "the runner's descriptor" },
  { line: 'ping -c1 -W1 $GATEWAY', why: 'ICMP to the one neighbour' },
  { line: 'curl -sS --noproxy "*" --max-time 1 http://169.254.169.254/', why: 'metadata' },
];

// A slow machine is no failure.
t.setTimeout(300_000);

t.test('escapes', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);
  const secret = join(world.dir, 'secret');
  writeFileSync(secret, 'secret of the host');
  const sockets = await listenAsDaemons(t);
  for (const path of sockets)
    t.equal((await world.host.run(['sh', '-c', connectTo(path)])).code, 0, `${path} answers on the host`);
  const list = attempts({ state: world.state, host: secret, sockets });

  t.test('every attempt of a hostile command fails, and the fence is whole afterwards', async (t) => {
    const script = [
      'P=${HTTPS_PROXY#http://}; GATEWAY=${P%:*}; export GATEWAY',
      ...list.map(({ line }, index) => `( ${line} ) >/dev/null 2>&1 </dev/null && echo "WON ${index}"`),
      // Not 53, 80, 443 and 3128: those are the proxy's.
      'for p in $(seq 1 40) 81 111 2049 2375 3127 3129 6443 8080 9090 9191; do (nc -z -w1 $GATEWAY $p && echo "WON port $p") 2>/dev/null & done; wait',
      'echo done',
    ].join('\n');
    const capture = await world.capture();
    const { stdout, report } = await world.sallyport(
      ['--name', world.name('escape')],
      ['bash', '-c', script],
    );
    const won = [...stdout.matchAll(/WON (.+)/g)].map(([, what = '']) => list[Number(what)] ?? what);
    t.same(won, []);
    t.match(stdout, /done\n$/);
    t.same(await capture.stop(), []);
    t.notOk(report.events.some(({ event }) => event === 'fence_broken'));
    t.equal(readFileSync(secret, 'utf8'), 'secret of the host');
  });

  t.test(
    'a workspace that holds a socket of the host is refused, so is a link into the system',
    async (t) => {
      const shared = join(world.dir, 'shared');
      mkdirSync(shared);
      const server = createServer().listen(join(shared, 'docker.sock'));
      await once(server, 'listening');
      t.equal((await world.sallyport(['--workspace', shared], ['true'])).code, 2);
      server.close();
    },
  );
});

/** Sockets where daemons of a host have theirs: under /run, /tmp, and where Nix is, in its own place. */
async function listenAsDaemons(t: { teardown(handler: () => void): void }): Promise<readonly string[]> {
  const paths: string[] = [];
  for (const folder of ['/run', '/tmp', '/var/tmp', '/nix/var/nix'].filter((one) => existsSync(one))) {
    const own = mkdtempSync(join(folder, 'sallyport-test-'));
    const path = join(own, 'daemon.sock');
    const server = createServer((socket) => socket.destroy()).listen(path);
    t.teardown(() => {
      server.close();
      rmSync(own, { recursive: true, force: true });
    });
    await once(server, 'listening');
    paths.push(path);
  }
  return paths;
}
