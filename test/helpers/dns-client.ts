// Asks a DNS server one thing, over UDP or TCP, byte by byte as the test wants it, and reads the answer. Not a resolver.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';

/** Numbers of the types that tests ask for. */
export const dnsTypes = {
  a: 1,
  ns: 2,
  soa: 6,
  txt: 16,
  aaaa: 28,
  svcb: 64,
  https: 65,
  axfr: 252,
  any: 255,
} as const;

export interface QueryShape {
  readonly name: string;
  /** Default A. */
  readonly type?: number;
  /** Default IN. */
  readonly class?: number;
  readonly id?: number;
  /** Default RD. */
  readonly flags?: number;
  /** Default one. */
  readonly counts?: readonly [number, number, number, number];
  /** Version of an OPT record. */
  readonly edns?: number;
  /** Bytes at the end. */
  readonly after?: Buffer;
}

/** A query in bytes; without a shape's wish it is a right one. */
export function buildQuery(shape: QueryShape): Buffer {
  const { id = 0x1234, flags = 0x0100, edns } = shape;
  const [questions, answers, authorities, additional] = shape.counts ?? [1, 0, 0, edns === undefined ? 0 : 1];
  const head = Buffer.alloc(12);
  for (const [i, value] of [id, flags, questions, answers, authorities, additional].entries())
    head.writeUInt16BE(value, 2 * i);
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(shape.type ?? dnsTypes.a, 0);
  tail.writeUInt16BE(shape.class ?? 1, 2);
  const opt = edns === undefined ? Buffer.alloc(0) : Buffer.of(0, 0, 41, 0x10, 0, 0, edns, 0, 0, 0, 0);
  return Buffer.concat([head, nameBytes(shape.name), tail, opt, shape.after ?? Buffer.alloc(0)]);
}

function nameBytes(name: string): Buffer {
  const labels = name === '' ? [] : name.split('.');
  return Buffer.concat([
    ...labels.map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label, 'latin1')])),
    Buffer.of(0),
  ]);
}

/** An answer as a test looks at it. */
export interface DnsSeen {
  readonly id: number;
  /** With the upper bits of EDNS. */
  readonly rcode: number;
  readonly flags: number;
  /** Bytes of every address. */
  readonly addresses: readonly string[];
  readonly ttls: readonly number[];
  readonly counts: readonly number[];
  readonly bytes: Buffer;
}

/** Reads an answer of the stub's kind: at most a question, one record with a pointer for its name, one OPT. */
export function readSeen(bytes: Buffer): DnsSeen {
  const counts = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  const [questions = 0, answers = 0, , additional = 0] = counts;
  let at = 12;
  if (questions > 0) at = bytes.indexOf(0, at) + 5;
  const records = Array.from({ length: answers }, () => {
    const length = bytes.readUInt16BE(at + 10);
    const record = { ttl: bytes.readUInt32BE(at + 6), data: bytes.subarray(at + 12, at + 12 + length) };
    at += 12 + length;
    return record;
  });
  const upper = additional > 0 ? (bytes[at + 5] ?? 0) << 4 : 0;
  const flags = bytes.readUInt16BE(2);
  return {
    id: bytes.readUInt16BE(0),
    rcode: upper | (flags & 0xf),
    flags,
    addresses: records.map(({ data }) => data.join('.')),
    ttls: records.map(({ ttl }) => ttl),
    counts,
    bytes,
  };
}

/** Sends each of `queries` from one socket and waits for the answers, in any order, until there are `count` (default: all; 0 waits for none). */
export async function askUdp(
  port: number,
  queries: readonly Buffer[],
  {
    count = queries.length,
    from,
    at = '127.0.0.1',
  }: { readonly count?: number; readonly from?: string; readonly at?: string } = {},
): Promise<readonly DnsSeen[]> {
  const socket = createSocket('udp4');
  try {
    if (from !== undefined) socket.bind(0, from);
    const seen: DnsSeen[] = [];
    const whole = new Promise<void>((resolve) => {
      socket.on('message', (bytes) => {
        if (seen.push(readSeen(bytes)) === count) resolve();
      });
    });
    for (const query of queries)
      await new Promise<void>((sent) => socket.send(query, port, at, () => sent()));
    if (count > 0) await whole;
    return seen;
  } finally {
    socket.close();
  }
}

/** Sends `bytes` over TCP, perhaps in pieces, and gives everything that came until the server closed. */
export async function askTcp(port: number, pieces: readonly Buffer[], isHalfClosed = true): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => void chunks.push(chunk));
  // A reset is an 'error' before the 'close'.
  const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()));
  for (const piece of pieces) await new Promise<void>((resolve) => void socket.write(piece, () => resolve()));
  if (isHalfClosed) socket.end();
  socket.once('end', () => socket.end());
  await closed;
  return Buffer.concat(chunks);
}

/** `message` with its length before it (RFC 7766 §8). */
export function framed(message: Buffer): Buffer {
  return Buffer.concat([Buffer.of(message.length >> 8, message.length & 0xff), message]);
}

/** The messages in what came over TCP. */
export function unframed(bytes: Buffer): readonly Buffer[] {
  const messages: Buffer[] = [];
  for (let at = 0; at + 2 <= bytes.length;) {
    const end = at + 2 + bytes.readUInt16BE(at);
    messages.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return messages;
}
