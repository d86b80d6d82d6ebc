// The reader of what the kernel tells of dropped packets: real bytes of tcpdump, then whatever a sandbox or a broken stream could make of them.
import fc from 'fast-check';
import t from 'tap';
import { createNflogReader, type DroppedPacket } from '../../nft/index.ts';
import { assertHolds } from '../helpers/fuzz.ts';

const fileHead = Buffer.from('d4c3b2a1020004000000000000000000000004 00ef000000'.replaceAll(' ', ''), 'hex');

interface Parts {
  readonly prefix?: string;
  readonly etherType?: number;
  readonly payload: Buffer;
}

/** One record as libpcap writes it. */
function record({ prefix = 'dns', etherType = 0x0800, payload }: Parts): Buffer {
  const type = Buffer.alloc(4);
  type.writeUInt16BE(etherType, 0);
  const body = Buffer.concat([
    Buffer.from('02004268', 'hex'),
    attribute(1, type),
    attribute(10, Buffer.from(`${prefix}\0`)),
    attribute(9, payload),
  ]);
  const head = Buffer.alloc(16);
  head.writeUInt32LE(1_790_000_000, 0);
  head.writeUInt32LE(123_456, 4);
  head.writeUInt32LE(body.length, 8);
  head.writeUInt32LE(body.length, 12);
  return Buffer.concat([head, body]);
}

function attribute(type: number, value: Buffer): Buffer {
  const padded = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
  padded.writeUInt16LE(4 + value.length, 0);
  padded.writeUInt16LE(type, 2);
  value.copy(padded, 4);
  return padded;
}

const ipv4 = (protocol: number, more = '14e9003500080000'): Buffer =>
  Buffer.from(
    `450000210000400040${protocol.toString(16).padStart(2, '0')}00000adb0002c0000201${more}`,
    'hex',
  );

const read = (...pieces: readonly Buffer[]): readonly DroppedPacket[] => {
  const reader = createNflogReader();
  return [fileHead, ...pieces].flatMap((piece) => reader(piece));
};

const heads: readonly (readonly [what: string, parts: Parts, expected: object | null])[] = [
  [
    'UDP',
    { payload: ipv4(17) },
    { class: 'dns', protocol: 'udp', source: '10.219.0.2', address: '192.0.2.1', port: 53 },
  ],
  ['ICMP has no port', { prefix: 'icmp', payload: ipv4(1) }, { class: 'icmp', protocol: 'icmp', port: null }],
  ['a protocol without a name', { prefix: 'other', payload: ipv4(47) }, { protocol: 'ip-47', port: null }],
  ['a head that is cut off before the ports', { payload: ipv4(17, '14e9') }, { protocol: 'udp', port: null }],
  [
    'a later fragment',
    { payload: Buffer.from(ipv4(17).toString('hex').replace('00004000', '000000b9'), 'hex') },
    { protocol: 'udp', port: null },
  ],
  [
    'IPv6',
    {
      prefix: 'ipv6',
      etherType: 0x86dd,
      payload: Buffer.from(
        `600000000008064020010db800000000000000000000000220010db8ffff0000000000000000000114e901bb`,
        'hex',
      ),
    },
    { class: 'ipv6', protocol: 'tcp', source: '2001:db8::2', address: '2001:db8:ffff::1', port: 443 },
  ],
  [
    'a frame that is no IP',
    { prefix: 'layer2', etherType: 0x88b5, payload: Buffer.from('00', 'hex') },
    { class: 'layer2', protocol: 'ether-88b5', source: null, address: null, port: null },
  ],
  [
    'IPv4 too short for a head',
    { payload: Buffer.from('4500', 'hex') },
    { protocol: 'ether-0800', address: null },
  ],
  ["somebody else's prefix", { prefix: 'IN=eth0', payload: ipv4(17) }, null],
];

for (const [what, parts, expected] of heads) {
  t.test(`${what} is read as what it is`, async (t) => {
    const found = read(record(parts));
    if (expected === null) t.same(found, []);
    else t.match(found, [{ at: 1_790_000_000_123, ...expected }]);
  });
}

t.test('however the stream is cut, the same packets come out, in order', async () => {
  const stream = Buffer.concat(heads.map(([, parts]) => record(parts)));
  const whole = JSON.stringify(read(stream));
  const cuts = fc.array(fc.nat(stream.length), { maxLength: 12 });
  await assertHolds(
    fc.property(cuts, (at) => {
      const edges = [0, ...at.toSorted((a, b) => a - b), stream.length];
      const pieces = edges.slice(1).map((end, i) => stream.subarray(edges[i], end));
      return JSON.stringify(read(...pieces)) === whole;
    }),
  );
});

t.test('no payload breaks the reader, and none of it comes out but addresses and a port', async () => {
  const names = fc.constantFrom('dns', 'ipv6', 'layer2', 'other');
  const types = fc.constantFrom(0x0800, 0x86dd, 0x0806);
  await assertHolds(
    fc.property(names, types, fc.uint8Array({ maxLength: 64 }), (prefix, etherType, bytes) => {
      const [packet] = read(record({ prefix, etherType, payload: Buffer.from(bytes) }));
      const known = /^(tcp|udp|udplite|sctp|icmp|icmpv6|igmp|ip-\d{1,3}|ether-[0-9a-f]{4})$/;
      return packet !== undefined && known.test(packet.protocol) && Object.keys(packet).length === 6;
    }),
  );
});

t.test(
  'what is no such stream is an error, and a record of any length claimed takes no memory',
  async (t) => {
    t.throws(() => createNflogReader()(Buffer.alloc(24)), /no NFLOG capture/);
    const huge = Buffer.alloc(16);
    huge.writeUInt32LE(0xffff_ffff, 8);
    t.throws(() => read(huge), /4294967295 bytes is none of ours/);
  },
);
