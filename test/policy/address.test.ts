// The address guard's tables: registries, metadata, embedded forms, CIDR grammar (failures.md 32-38).
import fc from 'fast-check';
import t from 'tap';
import {
  addressFromBytes,
  classifyAddress,
  parseAddress,
  parsePolicy,
  parseRange,
  unwrapAddress,
  type Address,
} from '../../policy/index.ts';
import { ipv4Rows, ipv6Rows, metadataRows } from '../../policy/special-addresses.ts';
import { addressOf as at } from '../helpers/address.ts';
import { assertHolds } from '../helpers/fuzz.ts';

const kind = (text: string): string => classifyAddress(at(text)).kind;
const isPublic = (text: string): boolean => classifyAddress(at(text)).isPublic;

/** First and last address of each range, as text. */
function ends(range: string): string[] {
  const parsed = parseRange(range);
  if ('problem' in parsed) throw new Error(parsed.problem);
  const last = parsed.base.bytes.map((byte, i) => {
    const fixed = Math.min(8, Math.max(0, parsed.bits - i * 8));
    return byte | (0xff >> fixed);
  });
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((last[2 * i] ?? 0) * 256 + (last[2 * i + 1] ?? 0)).toString(16),
  );
  return [parsed.base.text, parsed.base.family === 4 ? last.join('.') : groups.join(':')];
}

function addressOfRange(text: string): Address {
  const range = parseRange(text);
  if ('problem' in range) throw new Error(range.problem);
  return range.base;
}

/** By looking at every row. */
function linearKind(address: Address): string {
  const rows = [...metadataRows, ...ipv4Rows, ...ipv6Rows].flatMap(([text, ofRow]) => {
    const range = parseRange(text);
    return 'problem' in range || !range.contains(address) ? [] : [{ bits: range.bits, ofRow }];
  });
  return rows.toSorted((a, b) => b.bits - a.bits)[0]?.ofRow ?? 'global';
}

t.test('the rows of the first byte decide what all rows would', async (t) => {
  const bytes = (count: number) => fc.uint8Array({ minLength: count, maxLength: count });
  const special = fc
    .constantFrom(...[...metadataRows, ...ipv4Rows, ...ipv6Rows].map(([text]) => text))
    .chain((text) => {
      const base = addressOfRange(text);
      // Near the range: the last two bytes are others.
      return bytes(2).map((end) => Uint8Array.from([...base.bytes.slice(0, -2), ...end]));
    });
  const any = fc.oneof(bytes(4), bytes(16), special).map(addressFromBytes);
  // Wrapped and ISATAP addresses are judged before any row is.
  const plain = any.filter(
    (address) => unwrapAddress(address) === address && kind(address.text) !== 'isatap',
  );
  await assertHolds(fc.property(plain, (address) => kind(address.text) === linearKind(address)));
  for (let first = 0; first < 256; first += 1) {
    for (const rest of [0, 255]) {
      const four = addressFromBytes(Uint8Array.of(first, rest, rest, rest));
      t.equal(kind(four.text), linearKind(four), four.text);
    }
  }
});

t.test('a strict dotted quad and RFC 4291 text are addresses, nothing else is', async (t) => {
  const bad = [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '1.2.3.256',
    '0x1.2.3.4',
    '1.2.3.4/32',
    ' 1.2.3.4',
    '::1%eth0',
    'fe80::1%25eth0',
    '[::1]',
    ':::',
    '1::2::3',
    '12345::',
    'g::',
    '::1.2.3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '::ffff:1.2.3.04',
  ];
  t.same(
    bad.filter((text) => parseAddress(text) !== undefined),
    [],
  );
  const canonical = [
    ['1.2.3.4', '1.2.3.4'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::ffff:7f00:1', '::ffff:127.0.0.1'],
    ['::ffff:127.0.0.1', '::ffff:127.0.0.1'],
    ['::127.0.0.1', '::7f00:1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['64:ff9b::10.0.0.1', '64:ff9b::a00:1'],
    ['a:b:c:d:e:f:1.2.3.4', 'a:b:c:d:e:f:102:304'],
  ];
  for (const [text = '', expected] of canonical) t.equal(at(text).text, expected, text);
});

t.test('both ends of every special-purpose range are refused (row 35)', async (t) => {
  const refused = [...ipv4Rows, ...ipv6Rows].filter(([, kind]) => kind !== 'global');
  // The halves of IPv6 hold 2000::/3; their ends do not.
  const open = refused.flatMap(([range]) => ends(range).filter(isPublic));
  t.same(open, []);
  t.ok(refused.length > 45, 'the tables are there');
});

t.test('well-known special ranges are refused by name (row 35)', async (t) => {
  const rows = {
    'this-network': ['0.0.0.1', '0.255.255.255'],
    private: ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1'],
    shared: ['100.64.0.1', '100.127.255.255'],
    loopback: ['127.0.0.1', '127.255.255.255', '::1'],
    'link-local': ['169.254.1.1', 'fe80::1', 'febf::1'],
    'ietf-protocol': ['192.0.0.1', '192.0.0.9', '192.0.0.170', '2001:1::1', '2001:20::1'],
    documentation: ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff:fff::1'],
    benchmarking: ['198.18.0.1', '198.19.255.255', '2001:2::1'],
    multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1'],
    reserved: ['240.0.0.1', 'fec0::1', '4000::1', '1fff::1', '200::1', 'fe00::1'],
    broadcast: ['255.255.255.255'],
    unspecified: ['::'],
    'unique-local': ['fc00::1', 'fdff::1'],
    discard: ['100::1', '100:0:0:1::1'],
    'segment-routing': ['5f00::1'],
  };
  for (const [name, texts] of Object.entries(rows)) {
    t.same(
      texts.map(kind),
      texts.map(() => name),
      name,
    );
    t.notOk(texts.some(isPublic), name);
  }
});

t.test('neighbours of special ranges are public', async (t) => {
  const open = [
    '1.1.1.1',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '169.255.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '191.255.255.255',
    '192.0.1.0',
    '192.0.3.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
    '223.255.255.255',
    '2000::',
    '2001:200::1',
    '2003::1',
    '2606:4700::1111',
    '3ffe::1',
    '3fff:1000::1',
    '192.31.196.1',
    '2001:4:112::1',
  ];
  t.same(
    open.filter((text) => !isPublic(text)),
    [],
  );
});

for (const [range, , source] of metadataRows) {
  t.test(`metadata address ${range} (${source}) is refused, by a pin too (row 33)`, async (t) => {
    const text = range.split('/')[0] ?? '';
    t.equal(kind(text), 'metadata');
    const rule = { host: 'a.example.org', reason: 'x', addresses: [range] };
    t.throws(() => parsePolicy(JSON.stringify({ allow: [rule] })), { message: /metadata/ });
  });
}

const deniedV4 = [
  '127.0.0.1',
  '10.0.0.1',
  '169.254.169.254',
  '100.100.100.200',
  '168.63.129.16',
  '0.0.0.0',
  '224.0.0.1',
  '255.255.255.255',
];

t.test('a refused IPv4 address stays refused in every embedding (row 32)', async (t) => {
  const hex = (v4: string): string => {
    const [a = 0, b = 0, c = 0, d = 0] = v4.split('.').map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  };
  const schemes: Readonly<Record<string, (v4: string) => string>> = {
    mapped: (v4) => `::ffff:${v4}`,
    'mapped in hex': (v4) => `::ffff:${hex(v4)}`,
    compatible: (v4) => `::${hex(v4)}`,
    translated: (v4) => `::ffff:0:${hex(v4)}`,
    nat64: (v4) => `64:ff9b::${hex(v4)}`,
    'nat64, local use': (v4) => `64:ff9b:1::${hex(v4)}`,
    '6to4': (v4) => `2002:${hex(v4)}::1`,
    teredo: (v4) => `2001:0:${hex(v4)}::1`,
    isatap: (v4) => `2606:4700::5efe:${hex(v4)}`,
    'isatap, universal': (v4) => `2606:4700::200:5efe:${hex(v4)}`,
  };
  for (const [name, embed] of Object.entries(schemes)) {
    t.same(deniedV4.map(embed).filter(isPublic), [], name);
  }
  t.ok(isPublic('::ffff:93.184.215.14'), 'a mapped public address is its inside');
  t.ok(isPublic('64:ff9b::5db8:d70e'), 'DNS64 networks need NAT64');
  for (const scheme of ['compatible', '6to4', 'teredo', 'isatap', 'nat64, local use']) {
    t.notOk(
      isPublic(schemes[scheme]?.('93.184.215.14') ?? ''),
      `${scheme} is refused for public addresses too`,
    );
  }
});

t.test('0.0.0.0 and :: are refused: Linux dials the local host (row 37)', async (t) => {
  t.same(['0.0.0.0', '::', '::ffff:0.0.0.0'].filter(isPublic), []);
});

t.test('a CIDR with host bits, /0 or a loose spelling is a load error (axios #11172, row 38)', async (t) => {
  const bad = [
    '::/',
    '::/0',
    '0.0.0.0/0',
    '10.0.0.1/8',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    '10.0.0.0/8 ',
    '10.0.0.0/8/8',
    '10.0.0/8',
    '10/8',
    '10.0.0.0/',
    '/8',
    'fd00::1/8',
    'fd00::/129',
    'fd00::/1e1',
    '10.0.0.0/0x8',
    'fd00::%1/8',
    'corp.example/8',
    '10.0.0.0/8.0',
    '10.0.0.0/fd00::',
  ];
  const policyOf = (range: string): string =>
    JSON.stringify({ allow: [{ host: 'a.example.org', reason: 'x', addresses: [range] }] });
  for (const range of bad) {
    t.ok('problem' in parseRange(range), range);
    t.throws(() => parsePolicy(policyOf(range)), { code: 'policy_invalid' }, `${range} in a policy`);
  }
  for (const range of ['10.0.0.0/8', '10.20.4.8/32', 'fd00::/8', 'fd00::1/128', '93.184.215.0/24']) {
    t.doesNotThrow(() => parsePolicy(policyOf(range)), range);
  }
  for (const range of [
    '10.20.4.8',
    'FD00::/8',
    'fd00:0::/16',
    '::ffff:10.0.0.0/104',
    '127.0.0.0/8',
    '169.254.0.0/16',
    '::1/128',
    '2002::/16',
    'fe80::/10',
  ]) {
    t.throws(() => parsePolicy(policyOf(range)), { code: 'policy_invalid' }, `${range} in a policy`);
  }
});

t.test('a range holds its own family only', async (t) => {
  const range = parseRange('10.0.0.0/9');
  t.ok(!('problem' in range) && range.contains(at('10.127.255.255')));
  t.notOk('problem' in range || range.contains(at('10.128.0.0')));
  t.notOk('problem' in range || range.contains(at('a00::')), 'same first bytes, other family');
});
