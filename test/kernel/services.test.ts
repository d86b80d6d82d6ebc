// Named services as their users meet them: real PostgreSQL, Redis and ssh servers, their own clients in the sandbox by alias, and no proxy setting.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../helpers/needs.ts';
import { postgresPrograms, startPostgres, startRedis, startSshd } from './real-servers.ts';
import { makeWorld, worldNeeds } from './world.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

const servers = ['redis-server', 'redis-cli', 'psql', 'sshd', 'ssh', 'ssh-keygen', 'git'];
const wanted = [...worldNeeds, ...servers];
/** PostgreSQL's server is on nobody's PATH. */
const lacking = needs(t, [...wanted, ...(postgresPrograms() === undefined ? ['postgres'] : [])]);

/** Asks the resolver of the sandbox itself, which psql and the others do only for what their hosts file has not. */
const asking = `perl -MIO::Socket::INET -e '
  open F, "/etc/resolv.conf"; my ($at) = <F> =~ /nameserver (\\S+)/;
  for my $name (@ARGV) {
    my $s = IO::Socket::INET->new(PeerAddr => $at, PeerPort => 53, Proto => "udp");
    $s->send(pack("n6", 7, 256, 1, 0, 0, 0) . join("", map { pack("C/a*", $_) } split(/\\./, $name)) . "\\0" . pack("n2", 1, 1));
    $s->recv(my $r, 512); my $code = unpack("n", substr($r, 2, 2)) & 15;
    print "stub $name ", $code ? "code $code" : join(".", unpack("C4", substr($r, -4))), "\\n";
  }'`;

t.test('services of a run', { skip: lacking }, async (t) => {
  const world = await makeWorld(t, []);
  const [orders, users, cache, forge] = ['1.2.4.1', '1.2.4.2', '1.2.4.3', '1.2.4.4'];
  const databases = [
    { name: 'orders', address: orders },
    { name: 'users', address: users },
  ];
  const [login] = await Promise.all([
    startSshd(world.outside, world.dir, { address: forge, alias: 'forge', workspace: world.workspace }),
    startPostgres(world.outside, world.dir, 'secret word', databases),
    startRedis(world.outside, world.dir, cache),
  ]);
  const named = [
    '--service',
    `orders-db=${orders}:5432`,
    '--service',
    `users-db=${users}:5432`,
    '--service',
    `cache=${cache}:6379`,
    '--service',
    `forge=${forge}:22`,
  ];
  const bare = ['--wiring', 'transparent', '--workspace', world.workspace];

  t.test(
    'psql, redis-cli, ssh and git reach them by alias, two databases on one port among them, and nothing else of their hosts',
    async (t) => {
      t.ok(readFileSync(login.knownHosts, 'utf8').startsWith('forge ssh-ed25519 '));
      const script = [
        'unset NODE_OPTIONS; env | grep -icE "^[a-z]+_proxy="',
        'for db in orders-db users-db; do psql -h $db -d postgres -Atc "show cluster_name"; done',
        'psql -h orders-db -d postgres -Atc "select sum(n) from generate_series(1, 200000) n"',
        'redis-cli -h cache set k "v of $(hostname)"; redis-cli -h cache get k',
        'ssh git@forge echo as \\$USER',
        'git clone -q git@forge:repo.git && cat repo/file',
        'getent hosts orders-db users-db cache forge | sed "s/ *$//" | sort -u',
        `${asking} orders-db USERS-DB cache forge other-db`,
        'psql -h orders-db -p 5433 -d postgres -c "select 1" 2>/dev/null; echo "other port $?"',
        'timeout 2 redis-cli -h users-db -p 6379 ping 2>/dev/null; echo "port of another $?"',
        'PGCONNECT_TIMEOUT=2 psql -h other-db -d postgres -c "select 1" 2>/dev/null; echo "no alias $?"',
      ].join('\n');
      const ssh = '-i /workspace/id -o UserKnownHostsFile=/workspace/known_hosts -o BatchMode=yes';
      const settings = { PGUSER: 'agent', PGPASSWORD: 'secret word', PGCONNECT_TIMEOUT: '5' };
      const passed = Object.entries({ ...settings, GIT_SSH_COMMAND: `ssh ${ssh}` });
      const { stdout, stderr, report } = await world.sallyport(
        [
          ...bare,
          ...named,
          '--name',
          world.name('svc'),
          ...passed.flatMap((one) => ['--env', one.join('=')]),
        ],
        ['sh', '-c', script.replace('ssh git@', `ssh ${ssh} git@`)],
      );
      const lines = stdout.trim().split('\n');
      t.same(
        lines.slice(0, 8),
        ['0', 'orders', 'users', '20000100000', 'OK', 'v of sandbox', 'as git', 'cloned'],
        stderr,
      );
      const [own = ''] = lines[8]?.split(' ') ?? [];
      const second = own.replace(/\d+$/, (last) => String(Number(last) + 2));
      t.same(
        lines
          .slice(8)
          .map((line) => line.replaceAll(/ +/g, ' ').replaceAll(second, 'SECOND').replaceAll(own, 'OWN')),
        [
          'OWN orders-db cache forge',
          'SECOND users-db',
          'stub orders-db OWN',
          'stub USERS-DB SECOND',
          'stub cache OWN',
          'stub forge OWN',
          'stub other-db code 3',
          'other port 2',
          'port of another 124',
          'no alias 2',
        ],
      );
      t.ok((report.drops['host'] ?? 0) >= 2, 'the fence counted the other ports');
      const probes = report.gate?.probes.filter(({ id }) => id.startsWith('service-3-')) ?? [];
      t.ok(
        probes.length > 10 && probes.every(({ verdict }) => verdict === 'pass'),
        'the gate tried that address',
      );
      const audit = readFileSync(report.audit, 'utf8').trim().split('\n');
      const served = audit.filter(
        (line) => line.includes('"event":"decision"') && line.includes('"mode":"service"'),
      );
      t.ok(served.length >= 7 && served.every((line) => line.includes('"reason":"service_matched"')));
      t.notMatch(audit.join('\n'), /secret word|v of/u);
    },
  );

  t.test('a run with services is probed while they are used, and its addresses go with it', async (t) => {
    const script = `unset NODE_OPTIONS; psql -h users-db -d postgres -At <<'END'
select 'begun';
select pg_sleep(60);
END`;
    const passed = ['--env', 'PGUSER=agent', '--env', 'PGPASSWORD=secret word'];
    const run = world.start(
      [...bare, ...named, ...passed, '--name', world.name('live')],
      ['sh', '-c', script],
    );
    await run.line('begun');
    const main = join(import.meta.dirname, '../../container/main.ts');
    const state = { ...process.env, SALLYPORT_STATE_DIR: world.state };
    const probed = await world.host.run([process.execPath, main, 'probe', '--run', world.name('live')], {
      env: state,
    });
    t.equal(probed.code, 0, probed.stderr);
    t.match(probed.stdout, /ok .*TCP to the services at 10\.219\.0\.3 \(control\)/);
    run.child.kill('SIGTERM');
    t.equal(await run.ended, 143);
    const { stdout } = await world.host.run(['ip', '-o', 'addr', 'show', 'to', '10.219.0.0/16']);
    t.equal(stdout, '', 'its addresses are gone');
  });

  t.test('a port of the host is offered under one name, and nothing else of the host', async (t) => {
    const listens = (port: number, address: string): string =>
      `require('net').createServer(s=>{s.on('error',()=>{});s.end('${address} ${port}\\n')}).listen(${port},'${address}')`;
    const places = [
      listens(8080, '127.0.0.1'),
      listens(443, '127.0.0.1'),
      listens(8081, '0.0.0.0'),
      listens(8080, '10.98.0.1'),
      listens(8082, '10.98.0.1'),
    ];
    const server = world.host.start([
      process.execPath,
      '-e',
      `process.stdin.resume().on('close',()=>process.exit());${places.join(';')};setTimeout(()=>console.log('up'),0)`,
    ]);
    await server.line((line) => line === 'up');
    await world.host.listening(8080);
    const script = [
      'unset NODE_OPTIONS; getent hosts host.sallyport | sed "s/ .*//"',
      `${asking} host.sallyport Host.Sallyport host-8080 other.sallyport sallyport`,
      'for port in 8080 443 8081 8082 22; do nc -w1 host.sallyport $port </dev/null || echo "no $port"; done',
      'for at in 10.98.0.1 127.0.0.1; do nc -w1 $at 8080 </dev/null || echo "no way to $at"; done',
    ].join('\n');
    const { stdout, report } = await world.sallyport(
      [...bare, '--host-port', '8080', '--host-port', '443', '--name', world.name('port')],
      ['sh', '-c', script],
    );
    await server.stop();
    const [own = '', ...lines] = stdout.trim().split('\n');
    t.match(own, /^10\.219\.\d+\.3$/, '443 of the proxy is its own: the name has another address');
    t.same(lines, [
      `stub host.sallyport ${own}`,
      `stub Host.Sallyport ${own}`,
      `stub host-8080 ${own}`,
      'stub other.sallyport code 3',
      'stub sallyport code 3',
      '127.0.0.1 8080',
      '127.0.0.1 443',
      'no 8081',
      'no 8082',
      'no 22',
      'no way to 10.98.0.1',
      'no way to 127.0.0.1',
    ]);
    t.ok((report.drops['host'] ?? 0) >= 3, 'the fence counted what it dropped');
  });
});
