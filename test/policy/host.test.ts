// The grammar of a host and of CONNECT's authority: tables of what has fooled other proxies (failures.md 3a).
import { domainToASCII } from 'node:url';
import t from 'tap';
import { canonicalHost, parseTarget, printable } from '../../policy/index.ts';

/** `name a.b:443`, `address 127.0.0.1:443` or `malformed`. */
function shape(authority: string, defaultPort?: number): string {
  const target = parseTarget(authority, defaultPort);
  if (target.kind === 'name') return `name ${target.host}:${target.port}`;
  return target.kind === 'address' ? `address ${target.address.text}:${target.port}` : 'malformed';
}

const isMalformed = (authority: string): boolean => shape(authority) === 'malformed';

t.test(
  'no byte outside letters, digits, hyphen and dot passes at any position (NUL bypass, row 1)',
  async (t) => {
    const host = 'evil.allowed.com';
    const allowed = /[A-Za-z0-9.-]/;
    const bytes = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).filter(
      (c) => !allowed.test(c),
    );
    const passed = bytes.flatMap((byte) =>
      Array.from({ length: host.length + 1 }, (_, at) => host.slice(0, at) + byte + host.slice(at)).filter(
        (text) => 'host' in canonicalHost(text) || !isMalformed(`${text}:443`),
      ),
    );
    t.same(passed, []);
    t.equal(bytes.length, 256 - 64);
  },
);

t.test('case and one trailing dot are not part of a name (CVE-2022-24825, row 4)', async (t) => {
  for (const text of ['api.example.com', 'API.Example.COM', 'api.example.com.', 'API.EXAMPLE.COM.']) {
    t.equal(shape(`${text}:443`), 'name api.example.com:443', text);
  }
  for (const text of ['api.example.com..', '.api.example.com', 'api..example.com', '.', '..', '']) {
    t.ok(isMalformed(`${text}:443`), `\`${text}\``);
  }
});

t.test('brackets hold an IPv6 address and nothing else (CVE-2022-29188, row 5)', async (t) => {
  const bad = [
    '[example.net]:443',
    '[[::1]]:443',
    '[::1]x:443',
    '[::1',
    '::1]:443',
    '[]:443',
    '[1.2.3.4]:443',
    '[::1]443',
    '[::1]]:443',
    '[ ::1]:443',
    '[::1 ]:443',
    'x[::1]:443',
    '[::1]:',
    '[::g]:443',
    '[1:2:3:4:5:6:7:8:9]:443',
    '[:::1]:443',
    '[::1.2.3]:443',
    '[::01.2.3.4]:443',
    '[12345::]:443',
  ];
  t.same(
    bad.filter((text) => !isMalformed(text)),
    [],
  );
  t.equal(shape('[::1]:443'), 'address ::1:443');
  t.equal(shape('[2001:DB8:0:0::1]:8443'), 'address 2001:db8::1:8443');
  t.equal(shape('[::ffff:7f00:1]:443'), 'address ::ffff:127.0.0.1:443');
});

t.test('a zone id never passes (CVE-2025-22870, row 6)', async (t) => {
  const bad = [
    '[::1%25eth0]:443',
    '[::1%eth0]:443',
    '[fe80::1%25.example.com]:443',
    '[::1%25.example.com]:443',
    'fe80::1%eth0:443',
  ];
  t.same(
    bad.filter((text) => !isMalformed(text)),
    [],
  );
});

t.test('Unicode is refused, never normalised, and the hint names the ACE form (IDN, row 7)', async (t) => {
  const vectors = [
    'faß.de',
    'βόλος.com',
    'ὶ.example',
    'bücher.example',
    '例え.テスト',
    'good。example',
    'good．example',
    'ex\u00adample.com',
    'exa\u200dmple.com',
    'GOOD\u212a.example',
    '\u2488com.example',
    '①.example',
    'аpple.com',
    '\ud83d\ude00.example',
    'İ.example',
    'x.\u0131d',
  ];
  t.same(
    vectors.filter((text) => !isMalformed(`${text}:443`)),
    [],
  );
  const german = canonicalHost('bücher.example');
  t.match(german, { help: /`xn--bcher-kva\.example`/ });
  t.same(
    canonicalHost(domainToASCII('bücher.example')),
    { host: 'xn--bcher-kva.example' },
    'the hint is a name',
  );
});

/** Every spelling that inet_aton takes for one address: 1 to 4 parts, each decimal, octal or hex. */
function spellings(bytes: readonly [number, number, number, number]): string[] {
  const [a, b, c, d] = bytes;
  const splits = [
    [a, b, c, d],
    [a, b, c * 256 + d],
    [a, b * 65_536 + c * 256 + d],
    [a * 2 ** 24 + b * 65_536 + c * 256 + d],
  ];
  const bases = [
    (n: number) => String(n),
    (n: number) => `0${n.toString(8)}`,
    (n: number) => `0x${n.toString(16)}`,
    (n: number) => `0X${n.toString(16).toUpperCase()}`,
    (n: number) => `000${n.toString(8)}`,
    (n: number) => `0x0${n.toString(16)}`,
  ];
  const write = (parts: readonly number[]): string[] =>
    parts.reduce<string[]>(
      (texts, part, i) =>
        texts.flatMap((text) => bases.map((base) => `${text}${i === 0 ? '' : '.'}${base(part)}`)),
      [''],
    );
  return splits.flatMap(write);
}

t.test('no numeric spelling of an address is taken for a name (GHSA-v8fw-85r8-5m23, row 8)', async (t) => {
  const victims = [
    [127, 0, 0, 1],
    [169, 254, 169, 254],
    [10, 0, 0, 1],
  ] as const;
  for (const bytes of victims) {
    const text = bytes.join('.');
    const wrong = spellings(bytes).filter((s) => shape(`${s}:443`) !== `address ${text}:443`);
    t.same(wrong.slice(0, 5), [], text);
    t.same(
      spellings(bytes)
        .slice(0, 50)
        .filter((s) => shape(`${s}.:443`) !== `address ${text}:443`),
      [],
      `${text} with a dot`,
    );
  }
});

t.test('a numeric last label that makes no address makes no name either (row 8)', async (t) => {
  const bad = [
    '256.0.0.1',
    '1.2.3.256',
    '1.2.65536',
    '1.16777216',
    '4294967296',
    '1.2.3.4.5',
    '0x100000000',
    'a.1',
    'example.0x7f',
    '08.1',
    '1.2.3.09',
    '0x7g.1.2.3.4',
    'example.com.0',
    'a.0x',
    '99999999999999999999999999',
    '1..2',
    '-1',
    '1.-2',
    '0x.0x.0x.0x.1',
  ];
  t.same(
    bad.filter((text) => !isMalformed(`${text}:443`)).map((text) => `${text}: ${shape(`${text}:443`)}`),
    [],
  );
  t.equal(shape('1.example.com:443'), 'name 1.example.com:443', 'a number elsewhere is fine');
  t.equal(shape('a.0xg:443'), 'name a.0xg:443', 'not a hex number');
});

t.test('userinfo, paths and URLs are not an authority (row 9)', async (t) => {
  const bad = [
    'allowed.com@evil.com:443',
    'user:pw@evil.com:443',
    'allowed.com\\@evil.com:443',
    'allowed.com:443@evil.com',
    'http://a.com:443',
    'a.com:443/',
    'a.com:443/path',
    '//a.com:443',
    'a.com:443?x',
    'a.com:443#x',
    ' a.com:443',
    'a.com:443 ',
    'a.com :443',
    'a.com: 443',
    'a.com:443\r\nHost: b.com',
    'a.com,b.com:443',
    '*',
    '*.a.com:443',
    'a.com:443:443',
    'a_b.com:443',
    '-a.com:443',
    'a-.com:443',
    'a.-b:443',
  ];
  t.same(
    bad.filter((text) => !isMalformed(text)),
    [],
  );
});

t.test('lengths and ports end exactly where they should (row 10)', async (t) => {
  const label = 'a'.repeat(63);
  const longest = `${label}.${label}.${label}.${'a'.repeat(61)}`;
  t.equal(longest.length, 253);
  const rows: readonly (readonly [authority: string, isGood: boolean])[] = [
    [`${label}.com:443`, true],
    [`${label}a.com:443`, false],
    [`${longest}:443`, true],
    [`${longest}.:443`, true],
    [`${longest}a:443`, false],
    [`a.${longest}:443`, false],
    ['a.com:1', true],
    ['a.com:65535', true],
    ['a.com:65536', false],
    ['a.com:99999', false],
    ['a.com:0', false],
    ['a.com:00', false],
    ['a.com:007', false],
    ['a.com:0443', false],
    ['a.com:+443', false],
    ['a.com:-443', false],
    ['a.com:443.0', false],
    ['a.com:4e2', false],
    ['a.com:0x1bb', false],
    ['a.com:४४३', false],
    ['a.com:', false],
    ['a.com', false],
    [':443', false],
    ['', false],
    [`${'a.'.repeat(200_000)}com:443`, false],
  ];
  for (const [authority, isGood] of rows) t.equal(!isMalformed(authority), isGood, authority.slice(0, 40));
});

t.test('only a command line has a default port', async (t) => {
  t.equal(shape('a.com', 443), 'name a.com:443');
  t.equal(shape('[::1]', 443), 'address ::1:443');
  t.equal(shape('a.com:80', 443), 'name a.com:80');
  t.equal(shape('a.com:', 443), 'malformed', 'an empty port is not a missing one');
});

t.test('what is shown of a malformed request cannot write a log line or move a cursor', async (t) => {
  const target = parseTarget(`\u001b[31mred\r\n{"verdict":"allow"}\u2028${'x'.repeat(500)}`);
  t.equal(target.kind, 'malformed');
  const shown = target.kind === 'malformed' ? target.shown : '';
  t.match(shown, /^[\x20-\x7e]{1,80}$/);
  t.ok(shown.startsWith('\\x1b[31mred\\x0d\\x0a'));
  t.equal(printable('plain'), 'plain');
});
