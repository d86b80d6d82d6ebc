// The ClientHello parser against splits, mutations and a real TLS server: seeded, so that a red run can be repeated.
import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import fc from 'fast-check';
import t from 'tap';
import { createHelloReader, parseClientHello, type HelloResult } from '../../proxy/client-hello.ts';
import { assertHolds } from '../helpers/fuzz.ts';
import { buildHandshake, buildHello, record, toRecords, type HelloShape } from '../helpers/hello.ts';
import { nodeHello, opensslHello } from '../helpers/hello-real.ts';
import { findProgram } from '../helpers/needs.ts';

const maxBytes = 32_768;
const parse = (bytes: Uint8Array): HelloResult => parseClientHello(bytes, maxBytes);

const seeds: readonly Buffer[] = [
  await nodeHello({ servername: 'api.example.com' }),
  await nodeHello({ servername: 'a.test', ecdhCurve: 'X25519MLKEM768' }),
  await nodeHello({ servername: 'a.test', maxVersion: 'TLSv1.2' }),
  ...(findProgram('openssl') !== undefined ? [await opensslHello(['-servername', 'b.test'])] : []),
  buildHello({ serverName: 'c.test', grease: true, ech: true, nameLast: true }),
  buildHello({ serverName: 'd.test', postQuantum: true, recordSize: 100 }),
  buildHello({ serverName: 'e.test', tls12: true, recordSize: 1 }),
  buildHello({ tls12: true, bare: true }),
];

/** Pushes `bytes` cut at `cuts`. */
function parseInPieces(bytes: Uint8Array, cuts: readonly number[]): HelloResult {
  const reader = createHelloReader(maxBytes);
  const edges = [0, ...cuts.toSorted((a, b) => a - b), bytes.length];
  let result: HelloResult = { kind: 'need_more' };
  for (const [i, end] of edges.slice(1).entries()) result = reader.push(bytes.subarray(edges[i], end));
  return result;
}

t.test(
  'a hello split over two segments at every byte reads the same, and no part of it is enough',
  async (t) => {
    const wrong: string[] = [];
    for (const [which, hello] of seeds.entries()) {
      const whole = JSON.stringify(parse(hello));
      for (let cut = 0; cut < hello.length; cut += 1) {
        if (JSON.stringify(parseInPieces(hello, [cut])) !== whole) wrong.push(`${which} cut at ${cut}`);
        if (parse(hello.subarray(0, cut)).kind !== 'need_more') wrong.push(`${which} judged at ${cut}`);
      }
      const everyByte = Array.from({ length: hello.length }, (_, i) => i);
      if (JSON.stringify(parseInPieces(hello, everyByte)) !== whole) wrong.push(`${which} byte by byte`);
    }
    t.same(wrong, []);
  },
);

t.test('a hello split over two records at every byte gives the same server name', async (t) => {
  const wrong: string[] = [];
  const message = buildHandshake({
    serverName: 'a.test',
    postQuantum: true,
    grease: true,
    ech: true,
    nameLast: true,
  });
  for (let cut = 1; cut < message.length; cut += 1) {
    const bytes = Buffer.concat([record(message.subarray(0, cut)), record(message.subarray(cut))]);
    const result = parse(bytes);
    const isRight = result.kind === 'complete' && result.serverName === 'a.test' && result.ech;
    if (!isRight || result.bytes !== bytes.length) wrong.push(`record cut at ${cut}`);
  }
  for (let size = 1; size <= message.length; size += 1) {
    const result = parse(toRecords(message, size));
    if (result.kind !== 'complete' || result.serverName !== 'a.test') wrong.push(`records of ${size}`);
  }
  t.same(wrong, []);
});

const label = fc.stringMatching(/^[a-z0-9]{1,20}$/);
const shape: fc.Arbitrary<HelloShape> = fc.record(
  {
    serverName: fc.tuple(label, label).map((labels) => labels.join('.')),
    ech: fc.boolean(),
    grease: fc.boolean(),
    tls12: fc.boolean(),
    postQuantum: fc.boolean(),
    nameLast: fc.boolean(),
    padTo: fc.nat(4000),
    recordSize: fc.integer({ min: 1, max: 16_384 }),
    sessionId: fc.uint8Array({ maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
  },
  { requiredKeys: [] },
);

t.test('every legal hello is complete with the name and the ECH that were put in', async () => {
  await assertHolds(
    fc.property(shape, (shape) => {
      const result = parse(buildHello(shape));
      if (result.kind !== 'complete') throw new Error(JSON.stringify(result));
      return result.serverName === (shape.serverName ?? null) && result.ech === (shape.ech ?? false);
    }),
    500,
  );
});

/** A real or built hello with some of its bytes overwritten, removed or doubled, and some noise behind. */
const mutated: fc.Arbitrary<Buffer> = fc
  .record({
    seed: fc.constantFrom(...seeds),
    writes: fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 6 }),
    cut: fc.option(fc.tuple(fc.nat(2000), fc.nat(40))),
    double: fc.option(fc.tuple(fc.nat(2000), fc.nat(40))),
    tail: fc.uint8Array({ maxLength: 30 }),
  })
  .map(({ seed, writes, cut, double, tail }) => {
    let bytes = Buffer.from(seed);
    for (const [at, value] of writes) bytes[at % bytes.length] = value;
    if (cut !== null) bytes = Buffer.concat([bytes.subarray(0, cut[0]), bytes.subarray(cut[0] + cut[1])]);
    if (double !== null)
      bytes = Buffer.concat([bytes.subarray(0, double[0] + double[1]), bytes.subarray(double[0])]);
    return Buffer.concat([bytes, tail]);
  });

t.test(
  'a mutated hello never throws, is judged alike however it is split, and by its own bytes only',
  async () => {
    await assertHolds(
      fc.property(mutated, fc.array(fc.nat(2000), { maxLength: 8 }), fc.nat(255), (bytes, cuts, poison) => {
        const whole = JSON.stringify(parse(bytes));
        const pieces = parseInPieces(
          bytes,
          cuts.map((cut) => cut % (bytes.length + 1)),
        );
        // The same bytes inside a larger buffer: a read outside the slice would meet the poison.
        const inside = Buffer.concat([Buffer.alloc(64, poison), bytes, Buffer.alloc(4096, poison)]);
        const sliced = parse(inside.subarray(64, 64 + bytes.length));
        return JSON.stringify(pieces) === whole && JSON.stringify(sliced) === whole;
      }),
      3000,
    );
  },
);

t.test('noise never throws and is never complete', async () => {
  await assertHolds(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (noise, asRecord) => {
      return parse(asRecord ? record(Buffer.from(noise)) : noise).kind !== 'complete';
    }),
    3000,
  );
});

t.test('a TLS server never acts on a server name that the parser did not report', async (t) => {
  let acted: string | undefined;
  const server = createServer({
    SNICallback(name, done) {
      acted = name;
      done(new Error('seen enough'));
    },
  });
  server.on('tlsClientError', () => {}).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  let names = 0;
  await assertHolds(
    fc.asyncProperty(mutated, async (bytes) => {
      acted = undefined;
      const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      const { promise: closed, resolve } = Promise.withResolvers<void>();
      client.on('error', () => {}).once('close', resolve);
      client.resume().end(bytes);
      await closed;
      if (acted === undefined) return true;
      names += 1;
      const result = parse(bytes);
      return result.kind !== 'complete' || result.serverName === acted;
    }),
    400,
  );
  t.ok(names > 50, `the server acted on ${names} names`);
});
