// The DNS messages of the stub: reads one question, strictly, and writes one answer. Pure: no sockets, no policy, and no name compression is
// ever followed.

/** Longest query that is looked at: a name of 255 bytes and an OPT record with a cookie fit. */
export const maxQueryBytes = 512;

/** Everything that an answer needs of its query. */
export interface Query {
  readonly id: number;
  /** As sent: opcode, RD and CD come back. */
  readonly flags: number;
  /** As sent, its letter case included; empty when it could not be read. */
  readonly question: Buffer;
  /** Labels with dots between them; a byte that a name may not have makes it no host name. Empty for the root. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Version of EDNS; null without. */
  readonly edns: number | null;
}

/** A code of an answer; `badvers` stands in the OPT record (RFC 6891 §6.1.3). */
export const rcodes = { noerror: 0, formerr: 1, nxdomain: 3, notimp: 4, refused: 5, badvers: 16 } as const;

export type Rcode = keyof typeof rcodes;

/** What was read: a query, one that is to be told what is wrong with it, or one that gets no answer at all. */
export type ReadQuery =
  | { readonly kind: 'query'; readonly query: Query }
  | { readonly kind: 'bad'; readonly query: Query; readonly rcode: 'formerr' | 'notimp' }
  | { readonly kind: 'silent' };

const headerBytes = 12;
const [isAnswer, opcodeBits, echoed, recursionAvailable] = [0x8000, 0x7800, 0x7910, 0x0080];

/** RFC 1035 §4.1. Without a header there is nobody to answer, and an answer to an answer would make a loop. */
export function readQuery(message: Buffer): ReadQuery {
  if (message.length < headerBytes) return { kind: 'silent' };
  const flags = message.readUInt16BE(2);
  if ((flags & isAnswer) !== 0) return { kind: 'silent' };
  const head = { id: message.readUInt16BE(0), flags, ...nothing };
  if ((flags & opcodeBits) !== 0) return { kind: 'bad', query: head, rcode: 'notimp' };
  const read = message.length > maxQueryBytes ? undefined : readBody(message);
  if (read === undefined) return { kind: 'bad', query: head, rcode: 'formerr' };
  return { kind: 'query', query: { ...head, ...read } };
}

type Body = Omit<Query, 'id' | 'flags'>;

const nothing: Body = { question: Buffer.alloc(0), name: '', type: 0, class: 0, edns: null };

/** One question, no record but one OPT, and not a byte more. */
function readBody(message: Buffer): Body | undefined {
  const [questions, answers, authorities, additional] = [4, 6, 8, 10].map((at) => message.readUInt16BE(at));
  if (questions !== 1 || answers !== 0 || authorities !== 0) return undefined;
  const named = readName(message);
  if (named === undefined || message.length < named.end + 4) return undefined;
  const end = named.end + 4;
  const edns = additional === 0 && message.length === end ? null : readEdns(message.subarray(end));
  if (edns === undefined || (edns !== null && additional !== 1)) return undefined;
  return {
    question: message.subarray(headerBytes, end),
    name: named.name,
    type: message.readUInt16BE(named.end),
    class: message.readUInt16BE(named.end + 2),
    edns,
  };
}

const [maxLabelBytes, maxNameBytes] = [63, 255];

/** A length above 63 is a pointer or was never defined; in the first name of a message there is nothing to point to. */
function readName(message: Buffer): { readonly name: string; readonly end: number } | undefined {
  const labels: string[] = [];
  for (let at = headerBytes; at < message.length && at < headerBytes + maxNameBytes;) {
    const length = message[at] ?? 0;
    if (length === 0) return { name: labels.join('.'), end: at + 1 };
    if (length > maxLabelBytes || at + 1 + length >= message.length) return undefined;
    // A dot inside a label is not the dot between two: no reader may take one for the other.
    labels.push(message.toString('latin1', at + 1, at + 1 + length).replaceAll('.', '\\.'));
    at += 1 + length;
  }
  return undefined;
}

const optType = 41;
/** Root name, type, class, TTL and length of the data. */
const optBytes = 11;

/** The version in the one OPT record that `record` is from end to end; its options are not looked at. */
function readEdns(record: Buffer): number | undefined {
  if (record.length < optBytes || record[0] !== 0 || record.readUInt16BE(1) !== optType) return undefined;
  return record.length === optBytes + record.readUInt16BE(9) ? record[6] : undefined;
}

/** What an answer says besides its code. */
export interface Answer {
  readonly rcode: Rcode;
  /** Bytes of one address, 4 or 16; null is none. */
  readonly address: Uint8Array | null;
  readonly ttlS: number;
}

/** At most 28 bytes longer than the query, with one address of IPv6; below 512 bytes always, so nothing is ever cut off. */
export function writeAnswer(query: Query, { rcode, address, ttlS }: Answer): Buffer {
  const head = Buffer.alloc(headerBytes);
  head.writeUInt16BE(query.id, 0);
  head.writeUInt16BE(isAnswer | (query.flags & echoed) | recursionAvailable | (rcodes[rcode] & 0xf), 2);
  head.writeUInt16BE(query.question.length > 0 ? 1 : 0, 4);
  head.writeUInt16BE(address === null ? 0 : 1, 6);
  head.writeUInt16BE(query.edns === null ? 0 : 1, 10);
  const parts = [head, query.question];
  if (address !== null) parts.push(addressRecord(query, address, ttlS));
  if (query.edns !== null) parts.push(optRecord(rcode));
  return Buffer.concat(parts);
}

/** Its name is a pointer to the question's. */
function addressRecord(query: Query, address: Uint8Array, ttlS: number): Buffer {
  const record = Buffer.alloc(12 + address.length);
  record.writeUInt16BE(0xc000 | headerBytes, 0);
  record.writeUInt16BE(query.type, 2);
  record.writeUInt16BE(query.class, 4);
  record.writeUInt32BE(ttlS, 6);
  record.writeUInt16BE(address.length, 10);
  record.set(address, 12);
  return record;
}

function optRecord(rcode: Rcode): Buffer {
  const record = Buffer.alloc(optBytes);
  record.writeUInt16BE(optType, 1);
  record.writeUInt16BE(maxQueryBytes, 3);
  record[5] = rcodes[rcode] >> 4;
  return record;
}
