// Properties of the host and authority grammar over generated text. Vectors are in test/policy/host.test.ts.
import fc from 'fast-check';
import t from 'tap';
import {
  canonicalHost,
  classifyAddress,
  parseAddress,
  addressFromBytes,
  parseTarget,
  printable,
} from '../../policy/index.ts';
import { assertHolds } from '../helpers/fuzz.ts';

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/);
const host = fc
  .tuple(fc.array(label, { minLength: 1, maxLength: 5 }), fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/))
  .map(([labels, last]) => [...labels, last].join('.'));
const odd = Array.from('\0 %\\@/#?.[]:*_-Kſ。．ß\u00ad0xX+\r\n\t');
/** Text near the grammar: hosts with a few characters that have fooled parsers. */
const nearHost = fc
  .tuple(
    host,
    fc.array(fc.tuple(fc.nat(40), fc.constantFrom(...odd)), {
      maxLength: 3,
    }),
  )
  .map(([text, edits]) => edits.reduce((s, [at, c]) => s.slice(0, at) + c + s.slice(at), text));
const anyText = fc.oneof(
  nearHost,
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.string({ unit: 'grapheme', maxLength: 80 }),
);

t.test('the canonical form is a fixed point, lower case and without a trailing dot', async (t) => {
  await assertHolds(
    fc.property(anyText, (text) => {
      const read = canonicalHost(text);
      if (!('host' in read)) return read.problem !== '' && read.help !== '';
      const again = canonicalHost(read.host);
      return (
        'host' in again &&
        again.host === read.host &&
        /^[a-z0-9.-]+[a-z0-9]$/.test(read.host) &&
        read.host.length <= 253
      );
    }),
    5000,
  );
  t.pass();
});

t.test('case and one trailing dot never change what is read', async (t) => {
  await assertHolds(
    fc.property(host, fc.integer({ min: 1, max: 65_535 }), (name, port) => {
      const forms = [name, name.toUpperCase(), `${name}.`, `${name.toUpperCase()}.`].map((text) =>
        JSON.stringify(parseTarget(`${text}:${port}`)),
      );
      return new Set(forms).size === 1 && forms[0] === JSON.stringify({ kind: 'name', host: name, port });
    }),
  );
  t.pass();
});

/** What a lenient URL parser makes of the same authority; undefined where it refuses. */
function urlOf(authority: string): { host: string; port: number } | undefined {
  const url = URL.parse(`http://${authority}/`);
  if (url === null) return undefined;
  return { host: url.hostname.replace(/\.$/, ''), port: Number(url.port === '' ? '80' : url.port) };
}

t.test(
  'whatever is read as a name is the same name to a URL parser: no authority confusion (row 9)',
  async (t) => {
    const authority = fc.tuple(
      anyText,
      fc.oneof(fc.integer({ min: 0, max: 70_000 }).map(String), fc.string({ maxLength: 6 })),
    );
    await assertHolds(
      fc.property(authority, ([name, port]) => {
        const text = `${name}:${port}`;
        const target = parseTarget(text);
        if (target.kind === 'malformed') return /^[\x20-\x7e]{0,80}$/.test(target.shown);
        const url = urlOf(text);
        if (url === undefined) return target.kind === 'name'; // such as `xn--` labels that decode to nothing: DNS decides
        if (target.kind === 'name') return url.host === target.host && url.port === target.port;
        return (
          url.port === target.port &&
          url.host ===
            urlOf(target.address.family === 4 ? `${target.address.text}:1` : `[${target.address.text}]:1`)
              ?.host
        );
      }),
      5000,
    );
    t.pass();
  },
);

t.test('what a URL parser takes for an IPv4 address is never read as a name (row 8)', async (t) => {
  const part = fc.oneof(
    fc.nat(300).map(String),
    fc.nat(300).map((n) => `0x${n.toString(16)}`),
    fc.nat(300).map((n) => `0${n.toString(8)}`),
    fc.nat(2 ** 32).map(String),
    fc.constantFrom('', '0x', '08', 'a'),
  );
  await assertHolds(
    fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), (parts) => {
      const text = parts.join('.');
      const target = parseTarget(`${text}:443`);
      const url = urlOf(`${text}:443`);
      if (url === undefined || !/^\d+\.\d+\.\d+\.\d+$/.test(url.host)) return target.kind !== 'address';
      return target.kind === 'address' ? target.address.text === url.host : target.kind === 'malformed';
    }),
    5000,
  );
  t.pass();
});

t.test('an address survives printing and reading, and agrees with the URL parser', async (t) => {
  const zeroed = fc.array(fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.nat(255)), {
    minLength: 16,
    maxLength: 16,
  });
  await assertHolds(
    fc.property(zeroed, (bytes) => {
      const address = addressFromBytes(Uint8Array.from(bytes));
      const read = parseAddress(address.text);
      const url = urlOf(`[${address.text}]:1`)?.host ?? '';
      return (
        read?.text === address.text &&
        Buffer.from(read.bytes).equals(Buffer.from(bytes)) &&
        parseAddress(url.slice(1, -1))?.text === address.text
      );
    }),
    2000,
  );
  t.pass();
});

t.test('an IPv4 address is judged the same bare, mapped and behind NAT64', async (t) => {
  await assertHolds(
    fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), (v4) => {
      const wrap = (prefix: readonly number[]): Uint8Array => Uint8Array.from([...prefix, ...v4]);
      const mapped = wrap([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]);
      const nat64 = wrap([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]);
      const kinds = [v4, mapped, nat64].map((bytes) =>
        JSON.stringify(classifyAddress(addressFromBytes(bytes))),
      );
      return new Set(kinds).size === 1;
    }),
  );
  t.pass();
});

t.test('whatever is printed is one line of ASCII', async (t) => {
  await assertHolds(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) =>
      /^[\x20-\x7e]{0,80}$/.test(printable(text)),
    ),
  );
  t.pass();
});
