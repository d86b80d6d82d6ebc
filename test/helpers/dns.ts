// A small DNS server on loopback UDP that answers from a table and remembers what it was asked. Follows no name anywhere.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { parseAddress } from '../../policy/index.ts';

/** One answer; a zone entry may be a list, then each question takes the next one and the last one stays. */
export interface DnsReply {
  /** IPv4 or IPv6 text; each question gets those of its own family. */
  readonly addresses?: readonly string[];
  /** Seconds, default 300. */
  readonly ttl?: number;
  /** An alias; the addresses are then given under it. A CNAME loop is an alias without addresses. */
  readonly cname?: string;
  /** Default NOERROR; with no addresses that is an empty answer. */
  readonly code?: 'SERVFAIL' | 'NXDOMAIN' | 'REFUSED';
  /** Never answers. */
  readonly silent?: boolean;
  /** Applies to one family only; the other then has an empty answer unless listed beside. */
  readonly only?: 'A' | 'AAAA';
}

export interface DnsQuestion {
  readonly name: string;
  readonly type: 'A' | 'AAAA' | 'other';
}

export interface DnsServer extends AsyncDisposable {
  /** `ip:port`, as the resolver wants it. */
  readonly address: string;
  readonly asked: readonly DnsQuestion[];
  /** Resolves when a question for `name` has come in. */
  askedFor(name: string): Promise<void>;
  /** Changes what a name answers from now on. */
  set(name: string, ...replies: readonly DnsReply[]): void;
}

const types = new Map<number, DnsQuestion['type']>([
  [1, 'A'],
  [28, 'AAAA'],
]);
const codes = { SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 };

/** Starts a server; a name that is not in `zone` is NXDOMAIN. Names are compared in lower case. */
export async function startDns(
  zone: Readonly<Record<string, DnsReply | readonly DnsReply[]>> = {},
): Promise<DnsServer> {
  const replies = new Map<string, DnsReply[]>();
  const set: DnsServer['set'] = (name, ...list) => setBoth(replies, name, list);
  for (const [name, reply] of Object.entries(zone)) set(name, ...[reply].flat());
  const asked: DnsQuestion[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (message, peer) => {
    const { question, end } = readQuestion(message);
    asked.push(question);
    const reply = nextReply(replies, question);
    if (reply.silent !== true) socket.send(answer(message, end, question, reply), peer.port, peer.address);
    socket.emit('asked', question);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    set,
    async askedFor(name) {
      while (!asked.some((question) => question.name === name)) await once(socket, 'asked');
    },
    async [Symbol.asyncDispose]() {
      socket.close();
      await once(socket, 'close');
    },
  };
}

/** Each family has its own queue, so that a list means answers in turn and not A first, AAAA second. */
function setBoth(replies: Map<string, DnsReply[]>, name: string, list: readonly DnsReply[]): void {
  for (const type of ['A', 'AAAA'] as const) {
    replies.set(
      `${name} ${type}`,
      list.filter(({ only }) => only === undefined || only === type),
    );
  }
}

function nextReply(replies: Map<string, DnsReply[]>, { name, type }: DnsQuestion): DnsReply {
  const queue = replies.get(`${name} ${type}`);
  if (queue === undefined) return { code: 'NXDOMAIN' };
  const reply = queue.length > 1 ? queue.shift() : queue[0];
  return reply ?? {};
}

function readQuestion(message: Buffer): { question: DnsQuestion; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = message[at] ?? 0; length > 0; length = message[at] ?? 0) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const type = types.get(message.readUInt16BE(at + 1)) ?? 'other';
  return { question: { name: labels.join('.').toLowerCase(), type }, end: at + 5 };
}

function answer(query: Buffer, end: number, { type }: DnsQuestion, reply: DnsReply): Buffer {
  const ttl = reply.ttl ?? 300;
  const family = type === 'A' ? 4 : 6;
  const addresses = (reply.addresses ?? []).flatMap((text) => parseAddress(text) ?? []);
  const owner = reply.cname === undefined ? Buffer.from([0xc0, 12]) : nameBytes(reply.cname);
  const records = addresses
    .filter((address) => address.family === family)
    .map(({ bytes }) => resource(owner, family === 4 ? 1 : 28, ttl, bytes));
  if (reply.cname !== undefined) {
    records.unshift(resource(Buffer.from([0xc0, 12]), 5, ttl, owner));
    // An alias without addresses points back: a loop.
    if (addresses.length === 0) records.push(resource(owner, 5, ttl, Buffer.from([0xc0, 12])));
  }
  const head = Buffer.from(query.subarray(0, 12));
  head.writeUInt16BE(0x81_80 | (reply.code === undefined ? 0 : codes[reply.code]), 2);
  head.writeUInt16BE(records.length, 6);
  head.writeUInt32BE(0, 8);
  return Buffer.concat([head, query.subarray(12, end), ...records]);
}

function nameBytes(name: string): Buffer {
  const labels = name
    .split('.')
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([...labels, Buffer.from([0])]);
}

function resource(owner: Buffer, type: number, ttl: number, data: Uint8Array): Buffer {
  const head = Buffer.alloc(10);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(1, 2);
  head.writeUInt32BE(ttl, 4);
  head.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, head, data]);
}
