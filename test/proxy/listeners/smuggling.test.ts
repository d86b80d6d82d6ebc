// The smuggling corpus on a live proxy, at the proxy port and at a transparent one: 400, a closed connection, and an origin that saw nothing; and that
// other parsers, Node's of several versions, see in what we send on exactly the requests that were judged. A case is data.
import { readFileSync } from 'node:fs';
import { Agent, request as ask } from 'node:http';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { createChunkReader } from '../../../proxy/listeners/http-chunks.ts';
import { ownLoopback } from '../../helpers/doors.ts';
import { assertHolds } from '../../helpers/fuzz.ts';
import { startHttpOrigin } from '../../helpers/http-origin.ts';
import { parsersHere, startParser } from '../../helpers/http-parser.ts';
import { startOrigin } from '../../helpers/origin.ts';
import { dialProxy, readBytes } from '../../helpers/proxy-client.ts';
import { startTestProxy, type TestProxy, type TestProxyOptions } from '../../helpers/proxy.ts';

interface Case {
  readonly name: string;
  readonly lines: readonly string[];
  readonly body: string;
}

const { cases } = JSON.parse(readFileSync(join(import.meta.dirname, 'cases/smuggling.json'), 'utf8')) as {
  cases: readonly Case[];
};
const besidePort = 20_080;
const reason = 'test';
const policy = {
  allow: [
    { host: 'plain.test', reason, protocol: 'http', ports: [80, besidePort] },
    { host: 'other.test', reason, protocol: 'http', ports: [80, besidePort] },
  ],
};

/** A way to ask in plain HTTP: how its requests are written, and where they go. */
interface Form {
  readonly name: string;
  /** From the absolute form, which is what cases are written in. */
  write(text: string): string;
  where(proxy: TestProxy): readonly [port: number, address: string];
  /** Cases that are nothing special here, by name, and the answer that they get; none for those that are served. */
  readonly others: ReadonlyMap<string, readonly string[] | undefined>;
}

const malformed = ['HTTP/1.1 400 ', 'Sallyport-Reason: request_malformed'];
/** What does not begin with a method and a blank was never HTTP there: it is told so in TLS. */
const alert = ['alert 49'];
const noHttp = [
  'an empty line first',
  'a tab in the request line',
  'connect in lower case',
  'a method in lower case',
  'a method that begins in upper case',
  'a method with a mark',
  'no method',
  'a NUL before the method',
  'a blank first',
  'a line feed first',
];
const beside = ownLoopback();

const forms: readonly Form[] = [
  {
    name: 'the absolute form on the proxy port',
    write: (text) => text,
    where: ({ port }) => [port, '127.0.0.1'],
    others: new Map(),
  },
  {
    name: 'the origin form on a transparent port',
    write: (text) =>
      text
        .replaceAll(/^(\S*[ \t]+)http:\/\/(?:plain|other|evil)\.test\//gmu, '$1/')
        .replaceAll(/^(Host ?:.*?(?:plain|other|evil)\.test)(?!\.\.|:\d+$)/gimu, `$1:${besidePort}`),
    where: () => [besidePort, beside],
    others: new Map<string, readonly string[] | undefined>([
      ['another Host', ['HTTP/1.1 403 ', 'Sallyport-Reason: no_rule_matched']],
      ['the origin form', undefined],
      ['a network path', undefined],
      ...noHttp.map((name) => [name, alert] as const),
    ]),
  },
];

async function start(t: Test, options: Partial<TestProxyOptions>): Promise<TestProxy> {
  const settings = { idleTimeoutMs: 3000, headTimeoutMs: 3000, transparent: [`${beside}:${besidePort}`] };
  return await startTestProxy(t, { policy, ...options, settings: { ...settings, ...options.settings } });
}

const follower = 'GET http://plain.test/second HTTP/1.1\r\nHost: plain.test\r\n\r\n';

function textOf({ lines, body }: Case): string {
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

async function wholeAnswer([port, address]: ReturnType<Form['where']>, text: string): Promise<string> {
  const socket = await dialProxy(port, undefined, address);
  socket.end(Buffer.from(text, 'latin1'));
  const answer = await readBytes(socket, Infinity);
  socket.destroy();
  return answer.toString('latin1');
}

/** Statuses, reasons and alerts in what was answered. */
async function answersTo(form: Form, proxy: TestProxy, text: string): Promise<string[]> {
  const answer = await wholeAnswer(form.where(proxy), form.write(text));
  if (answer.startsWith('\u0015')) return [`alert ${answer.charCodeAt(6)}`];
  return answer.match(/HTTP\/1\.1 \d+ |Sallyport-Reason: \w+/gu) ?? [];
}

for (const form of forms) {
  const special = cases.filter(({ name }) => form.others.get(name) ?? !form.others.has(name));

  t.test(
    `${form.name}: each gives 400 and a closed connection, a good request behind it nothing, and the origin sees no byte (failures 18, 21)`,
    async (t) => {
      const origin = await startOrigin(t);
      const proxy = await start(t, { origin: origin.port });
      for (const c of special) {
        t.same(
          await answersTo(form, proxy, textOf(c) + follower),
          form.others.get(c.name) ?? malformed,
          c.name,
        );
        t.equal(origin.received().length, 0, c.name);
      }
      await proxy.closed(special.length);
      t.ok(proxy.closes.every(({ verdict }) => verdict === 'deny'));
      t.same(proxy.bugs, []);
    },
  );

  t.test(`${form.name}: each gives the same behind a good request on the same connection`, async (t) => {
    const origin = await startHttpOrigin(t);
    const proxy = await start(t, { origin: origin.port });
    for (const c of special) {
      const other = form.others.get(c.name);
      // The second request of a client is HTTP or nothing.
      const answer = other === undefined || other === alert ? malformed : other;
      t.same(
        await answersTo(form, proxy, follower + textOf(c) + follower),
        ['HTTP/1.1 200 ', ...answer],
        c.name,
      );
    }
    t.equal(origin.seen.length, special.length, 'one request each');
    t.same(new Set(origin.seen.map(({ url }) => url)), new Set(['/second']));
    t.same(proxy.bugs, []);
  });
}

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
/** A request that is as it should be, and what an origin must read. */
interface Good {
  readonly head: string;
  readonly content: string;
  readonly host: string;
  readonly read: readonly [method: string, url: string, body: string];
}

const disguises = [
  '',
  'hello',
  '0\r\n\r\n',
  follower,
  'GET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n',
  'x'.repeat(70_000),
];
const good: fc.Arbitrary<Good> = fc
  .record({
    host: fc.constantFrom('plain.test', 'plain.test', 'other.test', 'evil.test'),
    method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'),
    path: fc.constantFrom(
      '/',
      '/a?b=http://evil.test/',
      '//evil.test/',
      '/%0d%0aHost:%20evil.test',
      '/;x=:80',
    ),
    extra: fc.constantFrom(
      '',
      'X-A: b\r\n',
      'TE: trailers\r\n',
      'Connection: X-A\r\nX-A: b\r\n',
      'Trailer: X-A\r\n',
    ),
    body: fc.constantFrom(...disguises),
    framing: fc.constantFrom('length', 'chunked'),
    cut: fc.integer({ min: 1, max: 40_000 }),
  })
  .map(({ host, method, path, extra, body, framing, cut }) => {
    const head = `${method} http://${host}${path} HTTP/1.1\r\nHost: ${host}\r\n${extra}`;
    const sized = `Content-Length: ${body.length}\r\n\r\n${body}`;
    const chunked = `Transfer-Encoding: chunked\r\n\r\n${chunks(body, cut)}`;
    const content = framing === 'length' ? sized : chunked;
    return { host, head, content: body === '' ? '\r\n' : content, read: [method, path, body] };
  });

function chunks(body: string, cut: number): string {
  const pieces = [body.slice(0, cut), body.slice(cut)].filter((piece) => piece !== '');
  return `${pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`).join('')}0\r\n\r\n`;
}

/** A case of the corpus, or good requests, with up to three bytes or words where they do not belong. */
const mutated = (form: Form): fc.Arbitrary<string> =>
  fc
    .tuple(
      fc.oneof(
        { weight: 1, arbitrary: fc.constantFrom(...cases).map((c) => form.write(textOf(c))) },
        {
          weight: 2,
          arbitrary: fc
            .array(good, { minLength: 1, maxLength: 3 })
            .map((all) => all.map((one) => written(one, form)).join('')),
        },
      ),
      fc.array(fc.tuple(odd, fc.nat({ max: 400 })), { minLength: 1, maxLength: 3 }),
    )
    .map(([text, edits]) =>
      edits.reduce((changed, [extra, at]) => {
        const cut = at % (changed.length + 1);
        return changed.slice(0, cut) + form.write(extra) + changed.slice(cut);
      }, text),
    );

function written({ head, content }: Good, form: Form): string {
  return form.write(head) + content;
}

/** How often each host stands in `hosts`. */
function tally(hosts: readonly string[]): ReadonlyMap<string, number> {
  return new Map([...Map.groupBy(hosts, (host) => host)].map(([host, all]) => [host, all.length]));
}

for (const at of parsersHere()) {
  for (const form of forms) {
    t.test(
      `${at.name} behind ${form.name} reads every good request as it was written, and no other`,
      async (t) => {
        const parser = await startParser(t, at);
        const proxy = await start(t, { origin: parser.port });
        await assertHolds(
          fc.asyncProperty(fc.array(good, { minLength: 1, maxLength: 4 }), async (requests) => {
            const denied = requests.findIndex(({ host }) => host === 'evil.test');
            const served = denied === -1 ? requests : requests.slice(0, denied);
            await wholeAnswer(form.where(proxy), requests.map((one) => written(one, form)).join(''));
            const { seen, problems } = await parser.take();
            const read = seen.map(({ method, url, body }) => [method, url, body]);
            const wanted = served.map(({ read: inParts }) => inParts);
            return problems.length === 0 && JSON.stringify(read) === JSON.stringify(wanted);
          }),
          100,
        );
        t.same(proxy.bugs, []);
      },
    );

    t.test(
      `${at.name} behind ${form.name} reads no request that was not judged, whatever the mutation`,
      async (t) => {
        const parser = await startParser(t, at);
        const proxy = await start(t, {
          settings: { headTimeoutMs: 50, idleTimeoutMs: 50 },
          origin: parser.port,
        });
        const read: string[] = [];
        await assertHolds(
          fc.asyncProperty(mutated(form), async (text) => {
            await wholeAnswer(form.where(proxy), text);
            const { seen } = await parser.take();
            const hosts = seen.map(({ fields }) =>
              fields.filter((_, i) => i % 2 === 1 && fields[i - 1] === 'host'),
            );
            read.push(...hosts.map((all) => all.join(' and ').replace(/:\d+$/u, '')));
            // Over all that was sent: what was cut is read by the origin when it gets to it.
            const allowed = proxy.decisions.filter(({ verdict }) => verdict === 'allow');
            const judged = tally(allowed.map(({ host }) => host));
            return [...tally(read)].every(([host, times]) => times <= (judged.get(host) ?? 0));
          }),
          300,
        );
        t.ok(read.length > 10, `${read.length} were still requests`);
        t.same(proxy.bugs, []);
      },
    );
  }
}

const second = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Second: 1\r\n\r\nSECOND';
const forged = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Second: 1\r\n\r\nFORGED';
/** Answers that say more than one thing, or that another one hides in. */
const answered: readonly string[] = [
  `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi${forged}`,
  `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n${forged}`,
  `HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${forged}`,
  `HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: ${forged.length}\r\n\r\n${forged}`,
  `HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n${forged}`,
  `HTTP/1.1 204 No Content\r\nContent-Length: ${forged.length}\r\n\r\n${forged}`,
  `HTTP/1.1 304 Not Modified\r\nContent-Length: ${forged.length}\r\n\r\n${forged}`,
  `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n${forged}`,
  `HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n${forged}`,
  `HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi${forged}`,
  `HTTP/1.1 200 OK\nContent-Length: 0\n\n${forged}`,
  `HTTP/1.1 200 OK\r\nContent-Length:\r\n 0\r\n\r\n${forged}`,
  `HTTP/1.1 200 OK\r\nX: a\rContent-Length: 0\r\n\r\n${forged}`,
  `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=\n\r\nhi\r\n0\r\nX-Second: 2\r\n\r\n${forged}`,
  `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n${forged}`,
  forged.replace('FORGED', 'FORG'),
];
const anyAnswer = fc
  .tuple(fc.constantFrom(...answered), fc.array(fc.tuple(odd, fc.nat({ max: 200 })), { maxLength: 2 }))
  .map(([text, edits]) =>
    edits.reduce((changed, [extra, at]) => {
      const cut = at % (changed.length + 1);
      return changed.slice(0, cut) + extra + changed.slice(cut);
    }, text),
  );

/** What Node's own client, on one kept-alive connection, takes for the answer to `path`; an error is none. */
async function contentOf(agent: Agent, port: number, path: string): Promise<string> {
  const asked = ask({
    agent,
    port,
    host: '127.0.0.1',
    path: `http://plain.test${path}`,
    headers: { host: 'plain.test' },
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  asked.on('error', () => resolve('error'));
  asked.on('response', (answer) => {
    let text = '';
    answer.on('data', (piece: Buffer) => void (text += piece.toString('latin1')));
    answer.on('close', () => resolve(text));
  });
  asked.end();
  return await promise;
}

t.test(
  'whatever an origin answers, the next answer that a client reads is that of its next request',
  async (t) => {
    let first = '';
    const origin = await startOrigin(t, (socket) => {
      socket.once('data', (bytes: Buffer) => {
        socket.end(
          bytes.toString('latin1').startsWith('GET /second ') ? second : Buffer.from(first, 'latin1'),
        );
      });
    });
    const proxy = await start(t, { settings: { idleTimeoutMs: 300 }, origin: origin.port });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.teardown(() => agent.destroy());
    let reused = 0;
    await assertHolds(
      fc.asyncProperty(anyAnswer, async (text) => {
        first = text;
        await contentOf(agent, proxy.port, '/first');
        reused += Object.keys(agent.freeSockets).length;
        return (await contentOf(agent, proxy.port, '/second')) === 'SECOND';
      }),
      400,
    );
    t.ok(reused > 50, `${reused} of them on the same connection`);
    t.same(proxy.bugs, []);
  },
);

t.test('what comes right behind content is a request of its own, judged by its own Host', async (t) => {
  const origin = await startHttpOrigin(t);
  const proxy = await start(t, { origin: origin.port });
  const post = 'POST http://plain.test/first HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 5\r\n\r\nhello';
  const behind: readonly (readonly [text: string, answers: readonly string[]])[] = [
    [
      'GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n',
      ['HTTP/1.1 403 ', 'Sallyport-Reason: no_rule_matched'],
    ],
    ['more\r\n\r\n', malformed],
    ['\r\n' + follower, malformed],
    [follower, ['HTTP/1.1 200 ']],
  ];
  for (const form of forms) {
    for (const [text, answers] of behind)
      t.same(await answersTo(form, proxy, post + text), ['HTTP/1.1 200 ', ...answers], form.name);
  }
  t.same(
    origin.seen.map(({ url, body }) => `${url} ${body}`),
    forms.flatMap(() => ['/first hello', '/first hello', '/first hello', '/first hello', '/second ']),
  );
});

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
