// The smuggling corpus on a live proxy: 400, a closed connection, and an origin that saw nothing; and that Node's own parser sees in what we
// send on exactly the one request that was judged. A case is data.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { createChunkReader } from '../../../proxy/listeners/http-chunks.ts';
import { assertHolds } from '../../helpers/fuzz.ts';
import { startHttpOrigin } from '../../helpers/http-origin.ts';
import { startOrigin } from '../../helpers/origin.ts';
import { dialProxy, readBytes } from '../../helpers/proxy-client.ts';
import { startTestProxy, type TestProxy } from '../../helpers/proxy.ts';

interface Case {
  readonly name: string;
  readonly lines: readonly string[];
  readonly body: string;
}

const { cases } = JSON.parse(readFileSync(join(import.meta.dirname, 'cases/smuggling.json'), 'utf8')) as {
  cases: readonly Case[];
};
const policy = { allow: [{ host: 'plain.test', reason: 'test', protocol: 'http' }] };
const settings = { idleTimeoutMs: 3000, headTimeoutMs: 3000 };
const follower = 'GET http://plain.test/second HTTP/1.1\r\nHost: plain.test\r\n\r\n';

function textOf({ lines, body }: Case): string {
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

async function answersTo(proxy: TestProxy, text: string): Promise<string[]> {
  const socket = await dialProxy(proxy.port);
  socket.write(Buffer.from(text, 'latin1'));
  const answer = await readBytes(socket, Infinity);
  socket.destroy();
  return answer.toString('latin1').match(/HTTP\/1\.1 \d+ |Sallyport-Reason: \w+/gu) ?? [];
}

t.test(
  'each gives 400 and a closed connection, a good request behind it nothing, and the origin sees no byte (failures 18, 21)',
  async (t) => {
    const origin = await startOrigin(t);
    const proxy = await startTestProxy(t, { policy, settings, origin: origin.port });
    for (const c of cases) {
      t.same(
        await answersTo(proxy, textOf(c) + follower),
        ['HTTP/1.1 400 ', 'Sallyport-Reason: request_malformed'],
        c.name,
      );
      t.equal(origin.received().length, 0, c.name);
    }
    await proxy.closed(cases.length);
    t.same(
      new Set(proxy.closes.map(({ reason, verdict }) => `${verdict} ${reason}`)),
      new Set(['deny request_malformed']),
    );
    t.same(proxy.bugs, []);
  },
);

t.test('each gives the same behind a good request on the same connection', async (t) => {
  const origin = await startHttpOrigin(t);
  const proxy = await startTestProxy(t, { policy, settings, origin: origin.port });
  for (const c of cases) {
    t.same(
      await answersTo(proxy, follower + textOf(c) + follower),
      ['HTTP/1.1 200 ', 'HTTP/1.1 400 ', 'Sallyport-Reason: request_malformed'],
      c.name,
    );
  }
  t.equal(origin.seen.length, cases.length, 'one request each');
  t.same(new Set(origin.seen.map(({ url }) => url)), new Set(['/second']));
  t.same(proxy.bugs, []);
});

t.test(
  'whatever the mutation, the origin sees no request that was not judged, in its own parser',
  async (t) => {
    const origin = await startHttpOrigin(t);
    const proxy = await startTestProxy(t, {
      policy,
      settings: { ...settings, headTimeoutMs: 50, idleTimeoutMs: 50 },
      origin: origin.port,
    });
    const odd = fc.constantFrom(
      '\r\n',
      '\n',
      '\r',
      '\0',
      ' ',
      '\t',
      ':',
      ',',
      ';',
      '\u000b',
      '\u00a0',
      '0\r\n\r\n',
      'chunked',
      'Content-Length: 4\r\n',
      'Transfer-Encoding: chunked\r\n',
      'GET http://plain.test/smuggled HTTP/1.1\r\nHost: plain.test\r\n\r\n',
    );
    const mutated = fc
      .tuple(fc.constantFrom(...cases), fc.array(fc.tuple(odd, fc.nat()), { minLength: 1, maxLength: 3 }))
      .map(([c, edits]) =>
        edits.reduce((text, [extra, at]) => {
          const cut = at % (text.length + 1);
          return text.slice(0, cut) + extra + text.slice(cut);
        }, textOf(c)),
      );
    const allowed = (): number => proxy.decisions.filter(({ verdict }) => verdict === 'allow').length;
    await assertHolds(
      fc.asyncProperty(mutated, async (text) => {
        const socket = await dialProxy(proxy.port);
        socket.end(Buffer.from(text, 'latin1'));
        await readBytes(socket, Infinity);
        socket.destroy();
        return (
          origin.seen.length <= allowed() && origin.seen.every(({ fields }) => fields[1] === 'plain.test')
        );
      }),
      300,
    );
    t.same(proxy.bugs, []);
  },
);

t.test('chunks are read alike however they are cut, and what is written as chunks is read back', async () => {
  const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 8 });
  await assertHolds(
    fc.property(pieces, fc.array(fc.nat()), fc.uint8Array({ maxLength: 10 }), (chunks, cuts, behind) => {
      const written = chunks.map((chunk) =>
        Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]),
      );
      const end = Buffer.concat([...written, Buffer.from('0\r\n\r\n')]);
      const bytes = Buffer.concat([end, behind]);
      const ends = [...new Set([...cuts.map((cut) => cut % bytes.length), bytes.length])].toSorted(
        (a, b) => a - b,
      );
      const reader = createChunkReader();
      const data: Buffer[] = [];
      let from = 0;
      for (const to of ends) {
        const result = reader.push(bytes.subarray(from, to));
        if (result.kind === 'malformed') return false;
        data.push(...result.data);
        from = to;
        if (result.kind === 'end') {
          return Buffer.concat(data).equals(Buffer.concat(chunks)) && to - result.rest.length === end.length;
        }
      }
      return false;
    }),
  );
});
