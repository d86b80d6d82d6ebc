// The head parser alone: what is a head, what is not, and that it does not matter how the bytes arrive.
import fc from 'fast-check';
import t from 'tap';
import { askedBy } from '../../../proxy/listeners/connect-target.ts';
import { createHeadReader, type HeadResult } from '../../../proxy/listeners/request-head.ts';

const read = (text: string, maxBytes = 16_384): HeadResult =>
  createHeadReader(maxBytes).push(Buffer.from(text, 'latin1'));

const good = 'CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nUser-Agent: x\r\n\r\n';

t.test('a head is read into its method, target and fields, and the rest is kept', async (t) => {
  t.match(read(`${good}rest`), {
    kind: 'complete',
    head: {
      method: 'CONNECT',
      target: 'a.test:443',
      fields: [
        ['host', 'a.test:443'],
        ['user-agent', 'x'],
      ],
    },
    rest: Buffer.from('rest'),
  });
  t.match(read('CONNECT a.test:443 HTTP/1.0\r\n\r\n'), { kind: 'complete', head: { fields: [] } });
});

t.test('what two readers could read in two ways is refused', async (t) => {
  const bad: Record<string, string> = {
    'bare LF': 'CONNECT a.test:443 HTTP/1.1\nHost: a.test\n\n',
    'bare LF inside': 'CONNECT a.test:443 HTTP/1.1\r\nA: b\nC: d\r\n\r\n',
    'bare CR': 'CONNECT a.test:443 HTTP/1.1\r\nA: b\rC: d\r\n\r\n',
    'obs-fold': 'CONNECT a.test:443 HTTP/1.1\r\nA: b\r\n c\r\n\r\n',
    'obs-fold by tab': 'CONNECT a.test:443 HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n',
    'NUL in a value': 'CONNECT a.test:443 HTTP/1.1\r\nA: b\0c\r\n\r\n',
    'NUL in the target': 'CONNECT a.test\0.evil.test:443 HTTP/1.1\r\n\r\n',
    'escape byte': 'CONNECT a.test:443 HTTP/1.1\r\nA: \u001b[31m\r\n\r\n',
    'DEL byte': 'CONNECT a.test:443 HTTP/1.1\r\nA: \u007f\r\n\r\n',
    'blank before the colon': 'CONNECT a.test:443 HTTP/1.1\r\nHost : a.test\r\n\r\n',
    'no colon': 'CONNECT a.test:443 HTTP/1.1\r\nHost\r\n\r\n',
    'no name': 'CONNECT a.test:443 HTTP/1.1\r\n: x\r\n\r\n',
    'two blanks': 'CONNECT  a.test:443 HTTP/1.1\r\n\r\n',
    'a tab': 'CONNECT\ta.test:443 HTTP/1.1\r\n\r\n',
    'a blank in the target': 'CONNECT a.test:443 x HTTP/1.1\r\n\r\n',
    'a high byte in the method': 'CONN\u00e4CT a.test:443 HTTP/1.1\r\n\r\n',
    'no version': 'CONNECT a.test:443\r\n\r\n',
    'another version': 'PRI * HTTP/2.0\r\n\r\n',
    'lower-case protocol': 'CONNECT a.test:443 http/1.1\r\n\r\n',
    'an empty line first': '\r\nCONNECT a.test:443 HTTP/1.1\r\n\r\n',
    'a TLS hello': '\u0016\u0003\u0001\u0002\u0000',
  };
  const kinds = Object.entries(bad).map(([title, text]) => [title, read(text).kind]);
  t.same(
    kinds.filter(([, kind]) => kind !== 'malformed'),
    [],
  );
});

t.test('a TLS hello or other noise is refused at its first byte, not at the time limit', async (t) => {
  for (const first of ['\u0016', '\0', '\n', '\u007f']) t.equal(read(first).kind, 'malformed');
});

t.test('the limit is on the whole head, to the byte', async (t) => {
  t.equal(read(good, good.length).kind, 'complete');
  t.equal(read(good, good.length - 1).kind, 'too_large');
  t.equal(read(`CONNECT a.test:443 HTTP/1.1\r\nA: ${'b'.repeat(65_536)}\r\n\r\n`).kind, 'too_large');
  t.equal(read('x'.repeat(16_384)).kind, 'too_large');
});

t.test('a head reads the same however it is cut up', async () => {
  const heads = fc.constantFrom(
    good,
    good.replace('\r\n\r\n', '\r\n c\r\n\r\n'),
    good.replace('Host', 'Ho\nst'),
    'x\r\n\r\n',
  );
  const cuts = fc.array(fc.integer({ min: 0, max: good.length }), { maxLength: 8 });
  const holds = (head: string, at: number[]): boolean => {
    const whole = read(`${head}tail`);
    const reader = createHeadReader(16_384);
    const parts = [...at, 0, head.length + 4].toSorted((a, b) => a - b);
    let result: HeadResult = { kind: 'need_more' };
    for (const [i, start] of parts.entries()) {
      if (result.kind !== 'need_more') break;
      const chunk = Buffer.from(`${head}tail`.slice(start, parts[i + 1] ?? undefined), 'latin1');
      if (chunk.length > 0) result = reader.push(chunk);
    }
    const strip = (one: HeadResult): unknown => (one.kind === 'complete' ? one.head : one);
    return JSON.stringify(strip(result)) === JSON.stringify(strip(whole));
  };
  fc.assert(fc.property(heads, cuts, holds), { numRuns: 500, seed: 1 });
});

t.test('no bytes at all make it throw, and nothing refused is ever read as a CONNECT', async () => {
  const bytes = fc.uint8Array({ maxLength: 200 }).map((all) => Buffer.from(all));
  const pieces = fc.array(
    fc.constantFrom('CONNECT', ' ', 'a.test:443', 'HTTP/1.1', '\r\n', '\n', ':', 'Host', '\0', '\t', 'x'),
  );
  const text = pieces.map((all) => Buffer.from(all.join(''), 'latin1'));
  const holds = (input: Buffer): boolean => {
    const result = createHeadReader(256).push(input);
    if (result.kind !== 'complete') return true;
    const { method, target, fields } = result.head;
    const clean = [method, target, ...fields.flat()].every((part) => !/[\r\n\0]/u.test(part));
    return clean && !/[\t-\r ]/u.test(target) && askedBy(result).target.kind.length > 0;
  };
  fc.assert(fc.property(fc.oneof(bytes, text), holds), { numRuns: 3000, seed: 1 });
});

const asked = (...lines: readonly string[]): string => {
  const result = read(`${lines.join('\r\n')}\r\n\r\n`);
  if (result.kind === 'need_more') return result.kind;
  const { target, answer } = askedBy(result);
  return target.kind === 'malformed'
    ? `${answer?.status ?? 400} ${target.problem} [${target.shown}]`
    : target.kind;
};

t.test(
  'Host may be missing; one that is there must name the authority; two are refused (RFC 9112 §3.2)',
  async (t) => {
    const connect = 'CONNECT a.test:443 HTTP/1.1';
    t.equal(asked(connect), 'name');
    t.equal(asked(connect, 'Host: A.test.:443'), 'name');
    t.equal(asked(connect, 'Host: a.test'), 'name');
    t.match(asked(connect, 'Host: evil.test:443'), /^400 the Host field names another host/u);
    t.match(asked(connect, 'Host: a.test:80'), /^400 the Host/u);
    t.match(asked(connect, 'Host:'), /^400 the Host/u);
    t.match(asked(connect, 'Host: a.test, evil.test'), /^400 the Host/u);
    t.match(asked(connect, 'Host: a.test', 'host: a.test'), /^400 there is more than one Host/u);
  },
);

t.test('bytes beyond ASCII in the authority are never a name, whichever bytes they are', async (t) => {
  for (const target of [
    'b\u00fccher.test:443',
    'b\u00c3\u00bccher.test:443',
    'a.test\u00a0:443',
    '\u00c0\u00ae:443',
  ]) {
    t.match(asked(`CONNECT ${target} HTTP/1.1`), /^400 /u, JSON.stringify(target));
  }
});

t.test('a CONNECT with content could be read in two ways and is refused (RFC 9110 §9.3.6)', async (t) => {
  const connect = 'CONNECT a.test:443 HTTP/1.1';
  t.equal(asked(connect, 'Content-Length: 0'), 'name');
  for (const line of [
    'Content-Length: 5',
    'Content-Length: 0, 5',
    'Transfer-Encoding: chunked',
    'Content-Length: +0',
  ]) {
    t.match(asked(connect, line), /^400 a CONNECT request has no content/u);
  }
});

t.test('a method is in capitals or is none, and a CONNECT never shows a password', async (t) => {
  t.notMatch(asked('CONNECT user:s3cret@a.test:443 HTTP/1.1'), /s3cret/u);
  t.match(read('M-SEARCH http://a.test/ HTTP/1.1\r\n\r\n'), { head: { method: 'M-SEARCH', minor: 1 } });
  for (const method of ['connect', 'Get', 'gET', 'GET1', '-GET']) {
    t.match(read(`${method} a.test:443 HTTP/1.1\r\n\r\n`), {
      kind: 'malformed',
      problem: 'the method is not in capital letters',
    });
  }
});

t.test('only spaces and tabs around a value are blanks: 0xa0 is part of it', async (t) => {
  const { head } = read('GET / HTTP/1.0\r\nA: \t x y \t \r\nB:\u00a0chunked\u00a0\r\nC: \r\n\r\n') as {
    head: object;
  };
  t.same(head, {
    method: 'GET',
    target: '/',
    minor: 0,
    fields: [
      ['a', 'x y'],
      ['b', '\u00a0chunked\u00a0'],
      ['c', ''],
    ],
  });
});
