// The ClientHello parser, by example: what real stacks send, what hostile ones could, and how soon each is told apart.
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { createHelloReader, parseClientHello, type HelloResult } from '../../proxy/client-hello.ts';
import {
  buildHandshake,
  buildHello,
  handshakeMessage,
  record,
  serverNameExtension,
  toRecords,
  type HelloShape,
} from '../helpers/hello.ts';
import { nodeHello, opensslHello } from '../helpers/hello-real.ts';
import { needs } from '../helpers/needs.ts';

const maxBytes = 32_768;
const parse = (bytes: Uint8Array): HelloResult => parseClientHello(bytes, maxBytes);
const named = (serverName: string | null, ech = false): object => ({ kind: 'complete', serverName, ech });

t.test('well-formed hellos give their server name', async (t) => {
  const shapes: Record<string, HelloShape> = {
    'TLS 1.3': { serverName: 'a.test' },
    'TLS 1.2': { serverName: 'a.test', tls12: true },
    'legacy version 3.1': { serverName: 'a.test', tls12: true, version: 0x03_01 },
    'GREASE in suites and extensions': { serverName: 'a.test', grease: true },
    'post-quantum key share, over 1,024 bytes before the name': {
      serverName: 'a.test',
      postQuantum: true,
      nameLast: true,
    },
    'padded to 16 KiB': { serverName: 'a.test', padTo: 16_000 },
    'padded over several records': { serverName: 'a.test', padTo: 30_000 },
    'one byte a record': { serverName: 'a.test', recordSize: 1 },
    'name as last extension': { serverName: 'a.test', nameLast: true },
    'empty session id': { serverName: 'a.test', sessionId: Buffer.alloc(0) },
  };
  for (const [name, shape] of Object.entries(shapes))
    t.match(parse(buildHello(shape)), named('a.test'), name);
});

t.test(
  'handshake bytes behind the hello in its own record are refused, a record of their own is not looked at',
  async (t) => {
    const next = handshakeMessage(1, Buffer.alloc(40));
    t.match(parse(buildHello({ serverName: 'a.test', after: next })), { kind: 'malformed' });
    t.match(parse(buildHello({ serverName: 'a.test', after: Buffer.of(1) })), { kind: 'malformed' });
    const hello = buildHello({ serverName: 'a.test' });
    t.match(parse(Buffer.concat([hello, record(next)])), { kind: 'complete', bytes: hello.length });
  },
);

t.test(
  'a server name is reported as sent: case, trailing dot and address are for confirm() to judge',
  async (t) => {
    for (const name of [
      'API.Example.COM',
      'a.test.',
      '169.254.169.254',
      '[::1]',
      'a_b.test',
      'x'.repeat(255),
    ]) {
      t.match(parse(buildHello({ serverName: name })), named(name), name);
    }
  },
);

t.test('a hello without a server name is complete and says so', async (t) => {
  t.match(parse(buildHello({})), named(null));
  t.match(parse(buildHello({ tls12: true, bare: true })), named(null), 'no extension block at all');
});

t.test('encrypted ClientHello is seen, real or GREASE, first or last, with and without a name', async (t) => {
  t.match(parse(buildHello({ serverName: 'allowed.test', ech: true })), named('allowed.test', true));
  t.match(
    parse(buildHello({ serverName: 'a.test', ech: true, grease: true, nameLast: true })),
    named('a.test', true),
  );
  t.match(parse(buildHello({ ech: true, recordSize: 3 })), named(null, true));
  for (const type of [0xff_ce, 0xfe_08, 0xfe_0c, 0xff_02, 0xfd_00]) {
    const hello = buildHello({ serverName: 'a.test', extensions: [{ type, data: Buffer.alloc(8) }] });
    t.match(parse(hello), named('a.test', true), `code point ${type.toString(16)}`);
  }
});

t.test(
  'two readings of one hello are never possible: doubled or odd server names are malformed',
  async (t) => {
    const shapes: Record<string, HelloShape> = {
      'two server_name extensions': { serverName: 'a.test', secondServerName: 'evil.test' },
      'two equal server_name extensions': { serverName: 'a.test', secondServerName: 'a.test' },
      'two entries in one extension': { serverNames: ['a.test', 'evil.test'] },
      'no entry': { serverNames: [] },
      'an empty name': { serverName: '' },
      'a name of another type': { serverName: 'a.test', nameType: 1 },
      'NUL in the name': { serverName: 'a.test\0.evil.test' },
      'space in the name': { serverName: 'a.test evil.test' },
      'line break in the name': { serverName: 'a.test\r\n' },
      'high bytes in the name': { serverName: 'a\u00e4.test' },
      'DEL in the name': { serverName: 'a\u007f.test' },
      'a name over 255 bytes': { serverName: 'x'.repeat(256) },
      'an empty server_name extension': { extensions: [{ type: 0, data: Buffer.alloc(0) }] },
      'bytes behind the name list': {
        extensions: [
          { type: 0, data: Buffer.concat([serverNameExtension(['a.test']).data, Buffer.from([0])]) },
        ],
      },
      'any other extension twice': {
        serverName: 'a.test',
        extensions: [{ type: 10, data: Buffer.alloc(0) }],
      },
    };
    for (const [name, shape] of Object.entries(shapes))
      t.match(parse(buildHello(shape)), { kind: 'malformed' }, name);
  },
);

t.test('every length is checked against what holds it', async (t) => {
  const body = (suffix: string): Buffer => Buffer.from(`0303${'5a'.repeat(32)}${suffix}`, 'hex');
  const bodies: Record<string, Buffer> = {
    'version 4': Buffer.concat([Buffer.from([4]), buildHandshake({ serverName: 'a.test' }).subarray(5)]),
    'cut in the random': body('').subarray(0, 20),
    'session id of 33 bytes': body(`21${'11'.repeat(33)}000213010100`),
    'session id past the end': body('20'),
    'no cipher suites': body('0000000100'),
    'odd cipher suites': body('000003130113010100'),
    'cipher suites past the end': body('00fffe1301'),
    'no compression method': body('000002130100'),
    'extensions past the end': body('000002130101000010'),
    'bytes behind the extensions': body('0000021301010000000f'),
    'extension past its block': body('0000021301010000060000ffff0000'),
    'half an extension header': body('000002130101000003000000'),
    'one stray byte for an extension length': body('00000213010100ff'),
    'name past its list': body('00000213010100000d0000000900070000ff612e7465'),
  };
  for (const [name, bytes] of Object.entries(bodies)) {
    t.match(parse(record(handshakeMessage(1, bytes))), { kind: 'malformed' }, name);
  }
});

t.test(
  'other protocols are not TLS from their first bytes on: SSH, HTTP, a nested CONNECT, SSLv2, random',
  async (t) => {
    const firsts = [
      'SSH-2.0-x',
      'S',
      'GET / HTTP/1.1\r\n',
      'CONNECT b.test:443 HTTP/1.1\r\n\r\n',
      '\0',
      '\r\n',
      'EHLO x',
    ];
    for (const first of firsts) t.same(parse(Buffer.from(first)), { kind: 'not_tls' }, JSON.stringify(first));
    t.same(parse(Buffer.from('802e0100020015', 'hex')), { kind: 'not_tls' }, 'an SSLv2 hello');
    t.same(
      parse(Buffer.from([0x16, 0x02])),
      { kind: 'not_tls' },
      'wrong major version, told at the second byte',
    );
    t.same(parse(Buffer.from([0x16, 0xfe, 0xff])), { kind: 'not_tls' }, 'DTLS');
    t.same(parse(Buffer.from([0x16, 0x03, 0x09])), { kind: 'not_tls' }, 'wrong minor version');
    for (const type of [20, 21, 23, 24])
      t.same(parse(record(Buffer.alloc(9), type)), { kind: 'not_tls' }, `record ${type}`);
  },
);

t.test('a record stream that only begins like a hello is malformed', async (t) => {
  const message = buildHandshake({ serverName: 'a.test' });
  const half = record(message.subarray(0, 50));
  const streams: Record<string, Buffer> = {
    'an alert inside the hello': Buffer.concat([half, record(Buffer.from([2, 40]), 21)]),
    'another version inside the hello': Buffer.concat([half, record(message.subarray(50), 22, 0x02_00)]),
    'a server hello': record(handshakeMessage(2, Buffer.alloc(40))),
    'an empty hello': record(handshakeMessage(1, Buffer.alloc(0))),
    'an empty record': record(Buffer.alloc(0)),
    'empty records inside the hello': Buffer.concat([
      half,
      record(Buffer.alloc(0)),
      record(message.subarray(50)),
    ]),
    'a record over 16,384 bytes': record(Buffer.alloc(16_385, 1)),
    'a hello that says it is 16 MiB': record(Buffer.from([1, 0xff, 0xff, 0xff])),
  };
  for (const [name, bytes] of Object.entries(streams)) t.match(parse(bytes), { kind: 'malformed' }, name);
});

t.test('a hello that never ends is refused at the limit, and at the limit exactly', async (t) => {
  const hello = buildHello({ serverName: 'a.test', padTo: 600, recordSize: 100 });
  t.match(parseClientHello(hello, hello.length), { kind: 'complete', bytes: hello.length });
  t.match(parseClientHello(hello, hello.length - 1), { kind: 'malformed' });
  t.same(parseClientHello(hello.subarray(0, -1), hello.length), { kind: 'need_more' });
  const flood = toRecords(buildHandshake({ serverName: 'a.test', padTo: 40_000 }), 1);
  t.match(parse(flood), { kind: 'malformed', problem: 'the hello does not fit in 32768 bytes' });
});

t.test('bytes says where the hello ends, so that nothing behind it is taken for part of it', async (t) => {
  const hello = buildHello({ serverName: 'a.test' });
  const result = parse(Buffer.concat([hello, randomBytes(900)]));
  t.match(result, { kind: 'complete', bytes: hello.length });
});

t.test('a verdict, once given, is not changed by what is pushed later', async (t) => {
  const reader = createHelloReader(maxBytes);
  const verdict = reader.push(buildHello({ serverName: 'a.test' }));
  t.equal(reader.push(buildHello({ serverName: 'evil.test' })), verdict);
  t.equal(reader.push(randomBytes(50)), verdict);
});

t.test('real hellos of Node: TLS 1.2, TLS 1.3, post-quantum, with and without a name', async (t) => {
  t.match(parse(await nodeHello({ servername: 'api.example.com' })), named('api.example.com'));
  t.match(parse(await nodeHello({ servername: 'a.test', maxVersion: 'TLSv1.2' })), named('a.test'));
  t.match(parse(await nodeHello({ servername: '' })), named(null));
  const pq = await nodeHello({ servername: 'a.test', ecdhCurve: 'X25519MLKEM768' });
  t.match(parse(pq), named('a.test'));
  t.ok(pq.length > 1_200, 'the post-quantum hello is a large one');
});

t.test('real hellos of openssl', { skip: needs(t, ['openssl']) }, async (t) => {
  t.match(parse(await opensslHello(['-servername', 'a.test'])), named('a.test'));
  t.match(parse(await opensslHello(['-servername', 'a.test', '-tls1_2'])), named('a.test'));
  t.match(parse(await opensslHello(['-noservername', '-tls1_3'])), named(null));
});
