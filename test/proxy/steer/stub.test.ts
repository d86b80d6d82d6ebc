// The steering DNS on real sockets: what it answers, what it refuses, what it counts and puts on record.
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { parsePolicy } from '../../../policy/index.ts';
import type { ProxySettings } from '../../../proxy/config.ts';
import type { NameEvent } from '../../../proxy/observe/index.ts';
import { bindPrincipals } from '../../../proxy/principal.ts';
import type { DnsAnswer } from '../../../proxy/steer/answer.ts';
import { openStub } from '../../../proxy/steer/index.ts';
import { maxQueryBytes, readQuery, writeAnswer } from '../../../proxy/steer/message.ts';
import { dataPlaneUnderTest } from '../../helpers/conn.ts';
import {
  askTcp,
  askUdp,
  buildQuery,
  dnsTypes,
  framed,
  readSeen,
  unframed,
  type DnsSeen,
  type QueryShape,
} from '../../helpers/dns-client.ts';
import { assertHolds } from '../../helpers/fuzz.ts';
import { findProgram, needs } from '../../helpers/needs.ts';
import { testSettings } from '../../helpers/proxy.ts';

const policy = parsePolicy(
  JSON.stringify({
    version: 1,
    allow: [
      { host: 'a.test', reason: 'test' },
      { host: '*.wild.test', reason: 'test' },
      { host: 'other-port.test', ports: [8443], reason: 'test' },
      { host: 'far-port.test', ports: [9000], reason: 'test' },
      { host: 'plain.test', protocol: 'http', ports: [80], reason: 'test' },
    ],
    deny: [
      { host: 'no.wild.test', reason: 'test' },
      { host: '*.denied.test', reason: 'test' },
    ],
    services: [
      { name: 'db', host: 'db.corp.test', port: 1, reason: 'test' },
      { name: 'shut', host: 'x.denied.test', port: 2, reason: 'test' },
    ],
  }),
);

interface TestStub {
  readonly port: number;
  readonly answers: readonly DnsAnswer[];
  readonly names: readonly NameEvent[];
}

/** A stub beside transparent listeners that are said to be on 443 and 8443; services are at the same address. */
async function startStub(t: Test, settings: Partial<ProxySettings> = {}): Promise<TestStub> {
  const [answers, names]: [DnsAnswer[], NameEvent[]] = [[], []];
  const { network, relay } = dataPlaneUnderTest();
  const all = {
    ...testSettings,
    policy: '',
    serviceListen: '127.0.0.1',
    transparent: ['127.0.0.1:443', '127.0.0.1:8443', '127.0.0.2:9000'],
    ...settings,
  };
  const deps = {
    settings: all,
    network,
    clock: Date.now,
    policyStore: { current: policy },
    observers: {
      answered: (answer: DnsAnswer) => void answers.push(answer),
      named: (event: NameEvent) => void names.push(event),
      notAccepted(error: unknown) {
        throw error;
      },
      bug(error: unknown) {
        throw error;
      },
    },
  };
  const stub = await openStub('127.0.0.1:0', bindPrincipals(all.principals), deps);
  t.teardown(() => {
    stub.close();
    network.close();
    relay.close();
  });
  return { port: stub.port, answers, names };
}

const codes = new Map([
  [0, 'noerror'],
  [1, 'formerr'],
  [3, 'nxdomain'],
  [4, 'notimp'],
  [5, 'refused'],
  [16, 'badvers'],
]);

const rows: readonly (readonly [what: string, QueryShape, answer: string])[] = [
  ['an allowed name', { name: 'a.test' }, 'noerror 127.0.0.1'],
  ['in any letter case', { name: 'A.tEsT' }, 'noerror 127.0.0.1'],
  ['a name under a wildcard', { name: 'x.y.wild.test' }, 'noerror 127.0.0.1'],
  ['the apex of a wildcard', { name: 'wild.test' }, 'nxdomain'],
  ['a denied name under a wildcard', { name: 'no.wild.test' }, 'nxdomain'],
  ['a name on another port that is open', { name: 'other-port.test' }, 'noerror 127.0.0.1'],
  ['a name on a port that is not', { name: 'far-port.test' }, 'nxdomain'],
  ['a name for plain HTTP only', { name: 'plain.test' }, 'nxdomain'],
  ['the alias of a service', { name: 'db' }, 'noerror 127.0.0.1'],
  ['the alias of a service that a deny rule covers', { name: 'shut' }, 'nxdomain'],
  ['the host behind a service', { name: 'db.corp.test' }, 'nxdomain'],
  ['a name that is not listed', { name: 'evil.test' }, 'nxdomain'],
  ['no IPv6', { name: 'a.test', type: dnsTypes.aaaa }, 'noerror'],
  ['no keys for an encrypted hello', { name: 'a.test', type: dnsTypes.https }, 'noerror'],
  ['no service binding', { name: 'a.test', type: dnsTypes.svcb }, 'noerror'],
  ['no text', { name: 'a.test', type: dnsTypes.txt }, 'noerror'],
  ['text of a name that is not listed', { name: 'c2VjcmV0.evil.test', type: dnsTypes.txt }, 'nxdomain'],
  ['ANY', { name: 'a.test', type: dnsTypes.any }, 'refused'],
  ['a zone transfer', { name: 'a.test', type: dnsTypes.axfr }, 'refused'],
  ['the root', { name: '', type: dnsTypes.ns }, 'refused'],
  ['another class', { name: 'version.bind', type: dnsTypes.txt, class: 3 }, 'refused'],
  ['an address literal', { name: '1.2.3.4' }, 'nxdomain'],
  ['a single label', { name: 'localhost' }, 'nxdomain'],
  ['a colon', { name: 'a.test:443' }, 'nxdomain'],
  ['a NUL', { name: 'a.test\0.evil.test' }, 'nxdomain'],
  ['a zone update', { name: 'a.test', flags: 0x2800 }, 'notimp'],
  ['two questions', { name: 'a.test', counts: [2, 0, 0, 0] }, 'formerr'],
  ['no question', { name: 'a.test', counts: [0, 0, 0, 0] }, 'formerr'],
  ['an answer section', { name: 'a.test', counts: [1, 1, 0, 0] }, 'formerr'],
  ['a byte too many', { name: 'a.test', after: Buffer.of(0) }, 'formerr'],
  ['a record that is no OPT', { name: 'a.test', counts: [1, 0, 0, 1], after: Buffer.alloc(11) }, 'formerr'],
  ['a label of 64 bytes', { name: `${'x'.repeat(64)}.test` }, 'formerr'],
  ['a name of 255 bytes and more', { name: `${'x.'.repeat(130)}test` }, 'formerr'],
  ['a query of 513 bytes', { name: 'a.test', after: Buffer.alloc(490) }, 'formerr'],
  ['an unknown version of EDNS', { name: 'a.test', edns: 1 }, 'badvers'],
];

function shown({ rcode, addresses }: DnsSeen): string {
  return [codes.get(rcode) ?? String(rcode), ...addresses].join(' ');
}

t.test('an alias leads to the address of its service, wherever the stub is', async (t) => {
  const at = { name: 'db', address: '127.0.0.9' };
  const cases: readonly (readonly [what: string, Partial<ProxySettings>, name: string, answer: string])[] = [
    ['its own', { serviceAt: [at] }, 'DB', 'noerror 127.0.0.9'],
    ['its own, and no other is there', { serviceAt: [at], serviceListen: null }, 'db', 'noerror 127.0.0.9'],
    ['that of all', { serviceListen: '127.0.0.8' }, 'db', 'noerror 127.0.0.8'],
    ['none', { serviceListen: null }, 'db', 'nxdomain'],
    ['every one: the one that is asked', { serviceListen: '0.0.0.0' }, 'db', 'noerror 127.0.0.1'],
    ['of the other family', { serviceAt: [{ ...at, address: '::1' }] }, 'db', 'noerror'],
    ['a deny rule covers it', { serviceAt: [{ ...at, name: 'shut' }] }, 'shut', 'nxdomain'],
    ['no host port', {}, 'host.sallyport', 'nxdomain'],
    ['a host port that the policy has not', { hostPorts: [1] }, 'host.sallyport', 'nxdomain'],
  ];
  for (const [what, settings, name, answer] of cases) {
    const { port } = await startStub(t, settings);
    const [seen] = await askUdp(port, [buildQuery({ name })]);
    t.equal(seen && shown(seen), answer, what);
  }
});

t.test('each question has its answer from the table, the same over UDP and TCP', async (t) => {
  const { port } = await startStub(t);
  for (const [what, shape, answer] of rows) {
    const query = buildQuery(shape);
    const [udp] = await askUdp(port, [query]);
    t.equal(udp === undefined ? '' : shown(udp), answer, what);
    t.ok(udp !== undefined && udp.bytes.length <= query.length + 16, `${what}: at most one address longer`);
    t.ok(
      udp?.ttls.every((ttl) => ttl <= 5),
      `${what}: not kept for long`,
    );
    const tcp = unframed(await askTcp(port, [framed(query)])).map(readSeen);
    const isLong = query.length > maxQueryBytes;
    t.same(tcp.map(shown), isLong ? [] : [answer], `${what}, over TCP`);
  }
});

t.test(
  'an answer repeats the question as it was sent, its number and its wish for recursion, and EDNS in its least form',
  async (t) => {
    const { port } = await startStub(t);
    const query = buildQuery({ name: 'A.tEsT', id: 0xbeef, flags: 0x0110, edns: 0, after: Buffer.alloc(0) });
    const [seen] = await askUdp(port, [query]);
    t.equal(seen?.id, 0xbeef);
    t.equal(seen?.flags, 0x8190, 'an answer, RD and CD as asked, RA');
    t.same(seen?.counts, [1, 1, 0, 1]);
    t.ok(seen?.bytes.subarray(12, 24).equals(query.subarray(12, 24)), 'in the same letter case');
    t.same(
      seen?.bytes.subarray(-11),
      Buffer.of(0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 0),
      '512 bytes, no flag, no option',
    );
  },
);

/** A datagram from port 0, which only a raw socket can send: port and bytes in hex are its arguments. */
const fromPortZero = `
use Socket;
my ($port, $hex) = @ARGV;
my $bytes = pack('H*', $hex);
socket(my $raw, PF_INET, SOCK_RAW, 17) or die $!;
send($raw, pack('nnnn', 0, $port, 8 + length $bytes, 0) . $bytes, 0, sockaddr_in(0, inet_aton('127.0.0.1'))) or die $!;`;

t.test(
  'a datagram from port 0 gets no answer, and ends nobody',
  { skip: needs(t, ['root', 'perl']) },
  async (t) => {
    const { port, answers } = await startStub(t);
    const query = buildQuery({ name: 'a.test' });
    execFileSync(findProgram('perl') ?? '', ['-e', fromPortZero, String(port), query.toString('hex')]);
    const [seen] = await askUdp(port, [query]);
    t.equal(seen && shown(seen), 'noerror 127.0.0.1', 'the next one is answered');
    t.same(answers, ['silent', 'address']);
  },
);

t.test(
  'what is no query gets no answer: too short, or an answer itself; and neither does a stranger',
  async (t) => {
    const principals = [{ name: 'known', source: '127.0.0.1/32', listen: null }];
    const { port, answers } = await startStub(t, { principals });
    const mute = [Buffer.alloc(0), Buffer.alloc(11), buildQuery({ name: 'a.test', flags: 0x8000 })];
    const last = buildQuery({ name: 'a.test', id: 7 });
    const seen = await askUdp(port, [...mute, last], { count: 1 });
    t.same(
      seen.map(({ id }) => id),
      [7],
    );
    t.same(
      await askUdp(port, [last], { from: '127.0.0.9', count: 0 }),
      [],
      "an address that is no principal's",
    );
    await askUdp(port, [last]);
    t.same(answers.toSorted(), ['address', 'address', 'silent', 'silent', 'silent', 'silent']);
  },
);

t.test(
  'a denied name is on record with its reason and rule; an allowed one is not, for the connection will be',
  async (t) => {
    const { port, names } = await startStub(t);
    const asked = ['evil.test', 'no.wild.test', '1.2.3.4', 'far-port.test', 'a.test', 'a.test\0x.evil.test'];
    for (const name of asked) await askUdp(port, [buildQuery({ name })]);
    t.same(
      names.map(({ host, reason, rule, principal, run }) => [host, reason, rule, principal, run]),
      [
        ['evil.test', 'no_rule_matched', null, 'local', 'test-run'],
        ['no.wild.test', 'rule_denied', 'deny/no.wild.test', 'local', 'test-run'],
        ['1.2.3.4', 'host_is_address', null, 'local', 'test-run'],
        ['far-port.test', 'port_not_allowed', 'allow/far-port.test', 'local', 'test-run'],
        ['a.test\\x00x.evil.test', 'request_malformed', null, 'local', 'test-run'],
      ],
    );
  },
);

t.test('a principal that asks too fast is refused before its question is read, and counted', async (t) => {
  const { port, answers, names } = await startStub(t, { connectionBurst: 3, connectionsPerSecond: 1 });
  const seen = await askUdp(
    port,
    Array.from({ length: 20 }, (_, id) => buildQuery({ name: 'evil.test', id })),
  );
  const refused = seen.filter(({ rcode }) => rcode === 5).length;
  t.ok(refused >= 10, `${refused} of 20`);
  t.equal(answers.filter((answer) => answer === 'limited').length, refused);
  t.equal(names.length, 20 - refused, 'what was not read is not on record');
});

t.test(
  'over TCP: many questions on one connection, cut anywhere; too long or too slow an one ends it',
  async (t) => {
    const { port } = await startStub(t);
    const hasty = await startStub(t, { headTimeoutMs: 1 });
    const queries = Buffer.concat(['a.test', 'evil.test', 'db'].map((name) => framed(buildQuery({ name }))));
    const bytewise = Array.from(queries, (byte) => Buffer.of(byte));
    t.same(
      unframed(await askTcp(port, bytewise))
        .map(readSeen)
        .map(shown),
      ['noerror 127.0.0.1', 'nxdomain', 'noerror 127.0.0.1'],
    );
    t.equal(
      (await askTcp(port, [Buffer.of(0xff, 0xff)], false)).length,
      0,
      'a length of 65,535 is not waited for',
    );
    t.equal((await askTcp(hasty.port, [Buffer.of(0, 30, 1)], false)).length, 0, 'nor one that does not come');
    const flood = Buffer.concat(Array.from({ length: 100 }, () => framed(buildQuery({ name: 'a.test' }))));
    t.ok(unframed(await askTcp(port, [flood], false)).length <= 64, 'and after so many it is over');
  },
);

t.test(
  'any bytes: the reader never throws, and an answer fits 512 bytes and is at most 28 longer',
  async (t) => {
    const name = fc
      .array(fc.stringMatching(/^[a-z0-9.\0-]{1,20}$/), { maxLength: 8 })
      .map((parts) => parts.join('.'));
    const query = fc
      .record({ name, type: fc.nat(300), edns: fc.option(fc.nat(2), { nil: undefined }) })
      .map(({ edns, ...shape }) => buildQuery({ ...shape, ...(edns !== undefined && { edns }) }));
    const damaged = fc.tuple(query, fc.nat(600), fc.nat(255), fc.nat(600)).map(([bytes, at, byte, end]) => {
      const copy = Buffer.from(bytes);
      if (at < copy.length) copy[at] = byte;
      return end < 300 ? copy.subarray(0, end) : copy;
    });
    const bytes = fc.oneof(
      query,
      damaged,
      fc.uint8Array({ maxLength: 600 }).map((some) => Buffer.from(some)),
    );
    await assertHolds(
      fc.property(bytes, fc.boolean(), (message, isSix) => {
        const read = readQuery(message);
        if (read.kind === 'silent') return true;
        const address = new Uint8Array(isSix ? 16 : 4);
        const answer = writeAnswer(read.query, { rcode: 'noerror', address, ttlS: 5 });
        return answer.length <= maxQueryBytes && answer.length <= message.length + 28;
      }),
      20_000,
    );
    t.pass('held');
  },
);
