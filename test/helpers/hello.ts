// Builds ClientHello bytes by hand, right and wrong ones, for every test that must speak first. Not a TLS client.

/** An extension as it goes on the wire. */
export interface RawExtension {
  readonly type: number;
  readonly data: Buffer;
}

/** Everything has a plain TLS 1.3 default; `buildHello({ serverName: 'a.test' })` is a well-formed hello in one record. */
export interface HelloShape {
  /** One server name; undefined means no server_name extension. Bytes are taken as latin1, so any byte can be sent. */
  readonly serverName?: string;
  /** Several entries in one server_name extension (illegal when more than one). */
  readonly serverNames?: readonly string[];
  /** A second server_name extension with this name (illegal). */
  readonly secondServerName?: string;
  /** Name type of the entries, default 0 (host_name). */
  readonly nameType?: number;
  /** An encrypted_client_hello extension; true means GREASE-like random content. */
  readonly ech?: boolean;
  /** GREASE values (RFC 8701) in cipher suites and extensions. */
  readonly grease?: boolean;
  /** Legacy version in the hello, default 0x0303. */
  readonly version?: number;
  /** TLS 1.2 shape: no supported_versions, no key_share. */
  readonly tls12?: boolean;
  /** Key share as large as X25519MLKEM768's (1,216 bytes). */
  readonly postQuantum?: boolean;
  /** Pads the handshake message to at least this many bytes with a padding extension (RFC 7685). */
  readonly padTo?: number;
  /** server_name goes last instead of first. */
  readonly nameLast?: boolean;
  /** No extension block at all (legal before TLS 1.3). */
  readonly bare?: boolean;
  /** More extensions, before the padding. */
  readonly extensions?: readonly RawExtension[];
  readonly sessionId?: Buffer;
  readonly cipherSuites?: Buffer;
  readonly compression?: Buffer;
  /** Bytes of handshake data per record, default all in one (up to 16,384). */
  readonly recordSize?: number;
  /** Other handshake or early bytes, coalesced after the hello in the same record(s). */
  readonly after?: Buffer;
}

/** The hello of `shape`, in TLS records, ready to be written to a socket. */
export function buildHello(shape: HelloShape = {}): Buffer {
  return toRecords(Buffer.concat([buildHandshake(shape), shape.after ?? Buffer.alloc(0)]), shape.recordSize);
}

/** The handshake message alone (type 1, length, body), for tests that cut records themselves. */
export function buildHandshake(shape: HelloShape = {}): Buffer {
  return handshakeMessage(1, helloBody(shape));
}

/** A handshake message of any type. */
export function handshakeMessage(type: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type]), uint(body.length, 3), body]);
}

/** `payload` cut into records of `size` bytes each. */
export function toRecords(payload: Buffer, size = 16_384, type = 22): Buffer {
  const records: Buffer[] = [];
  for (let at = 0; at < payload.length; at += size) {
    records.push(record(payload.subarray(at, at + size), type));
  }
  return Buffer.concat(records);
}

/** One TLS record; `length` may lie. */
export function record(fragment: Buffer, type = 22, version = 0x03_01, length = fragment.length): Buffer {
  return Buffer.concat([Buffer.from([type]), uint(version, 2), uint(length, 2), fragment]);
}

const retryRandom = 'cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c';

/** The start of a ServerHello, or of a HelloRetryRequest, which differs by its random alone (RFC 8446 §4.1.3). */
export function buildAnswer(kind: 'hello' | 'retry'): Buffer {
  const random = kind === 'retry' ? retryRandom : '11'.repeat(32);
  return record(Buffer.from(`020000260303${random}`, 'hex'));
}

/** A server_name extension with these entries. */
export function serverNameExtension(names: readonly string[], nameType = 0): RawExtension {
  const entries = names.map((name) =>
    Buffer.concat([Buffer.from([nameType]), vector(Buffer.from(name, 'latin1'), 2)]),
  );
  return { type: 0, data: vector(Buffer.concat(entries), 2) };
}

/** A length-prefixed vector (RFC 8446 §3.4). */
export function vector(data: Buffer, lengthBytes: 1 | 2 | 3): Buffer {
  return Buffer.concat([uint(data.length, lengthBytes), data]);
}

function uint(value: number, bytes: number): Buffer {
  const out = Buffer.alloc(bytes);
  out.writeUIntBE(value, 0, bytes);
  return out;
}

function helloBody(shape: HelloShape): Buffer {
  const parts = [
    uint(shape.version ?? 0x03_03, 2),
    Buffer.alloc(32, 0x5a),
    vector(shape.sessionId ?? Buffer.alloc(32, 0x11), 1),
    vector(shape.cipherSuites ?? suites(shape), 2),
    vector(shape.compression ?? Buffer.from([0]), 1),
  ];
  if (!shape.bare) parts.push(extensionBlock(shape, Buffer.concat(parts).length + 4));
  return Buffer.concat(parts);
}

function suites({ grease, tls12 }: HelloShape): Buffer {
  const plain = tls12 ? 'c02fc030' : '130113021303';
  return Buffer.from((grease ? '0a0a' : '') + plain, 'hex');
}

function extensionBlock(shape: HelloShape, before: number): Buffer {
  const block = Buffer.concat(extensionsOf(shape).map(wire));
  const missing = (shape.padTo ?? 0) - before - 2 - block.length;
  const padding =
    missing > 0 ? wire({ type: 21, data: Buffer.alloc(Math.max(0, missing - 4)) }) : Buffer.alloc(0);
  return vector(Buffer.concat([block, padding]), 2);
}

function extensionsOf(shape: HelloShape): readonly RawExtension[] {
  const names = namesOf(shape);
  const rest = otherExtensions(shape);
  return shape.nameLast ? [...rest, ...names] : [...names, ...rest];
}

function namesOf({
  serverName,
  serverNames,
  secondServerName,
  nameType,
}: HelloShape): readonly RawExtension[] {
  const first = serverNames ?? (serverName === undefined ? undefined : [serverName]);
  return [
    ...(first === undefined ? [] : [serverNameExtension(first, nameType)]),
    ...(secondServerName === undefined ? [] : [serverNameExtension([secondServerName], nameType)]),
  ];
}

function otherExtensions(shape: HelloShape): readonly RawExtension[] {
  const keyShare = shape.postQuantum ? Buffer.alloc(1216, 0x77) : Buffer.alloc(32, 0x77);
  const group = shape.postQuantum ? '11ec' : '001d';
  const tls13: RawExtension[] = [
    { type: 43, data: Buffer.from('0403040303', 'hex') },
    { type: 51, data: vector(Buffer.concat([Buffer.from(group, 'hex'), vector(keyShare, 2)]), 2) },
  ];
  return [
    ...(shape.grease ? [{ type: 0x1a_1a, data: Buffer.alloc(0) }] : []),
    { type: 10, data: Buffer.from('0004001d0017', 'hex') },
    { type: 13, data: Buffer.from('000404030804', 'hex') },
    ...(shape.tls12 ? [] : tls13),
    ...(shape.ech ? [{ type: 0xfe_0d, data: Buffer.alloc(186, 0x42) }] : []),
    ...(shape.extensions ?? []),
    ...(shape.grease ? [{ type: 0x2a_2a, data: Buffer.from([0]) }] : []),
  ];
}

function wire({ type, data }: RawExtension): Buffer {
  return Buffer.concat([uint(type, 2), vector(data, 2)]);
}
