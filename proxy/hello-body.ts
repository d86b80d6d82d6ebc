// Reads the body of a ClientHello: its server name, and whether it hides one. Bounds are checked at every field; knows
// nothing of records, sockets or policy.

/** What the third gate asks of a hello. The name is as sent: printable ASCII, not yet canonical. */
export interface HelloBody {
  readonly serverName: string | null;
  readonly ech: boolean;
}

/** The bytes are not a legal ClientHello; the message says where. Thrown and caught inside the parser only. */
export class HelloProblem extends Error {}

// RFC 9849 and every code point its drafts used on the wire: an old stack that still knows one hides a name just as well.
const hidesServerName = new Set([
  0xfe_0d, // encrypted_client_hello, RFC 9849 (draft-ietf-tls-esni 13 and later)
  0xfd_00, // ech_outer_extensions, RFC 9849: legal only inside an encrypted hello
  0xfe_08, // the same in draft-ietf-tls-esni 08 to 12, one code point a draft
  0xfe_09,
  0xfe_0a,
  0xfe_0b,
  0xfe_0c,
  0xff_02, // draft 07
  0xff_03,
  0xff_ce, // encrypted_server_name, drafts 00 to 06
]);
const serverNameExtension = 0;
const hostNameType = 0;
const maxNameBytes = 255;

/**
 * Parses the body of one ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2).
 * @throws HelloProblem on anything a server would not accept or two servers could read differently
 */
export function readHelloBody(body: Uint8Array): HelloBody {
  const hello = new Cursor(body, 'hello');
  if (hello.uint(1) !== 3) throw new HelloProblem('the version is not one of TLS');
  hello.skip(1 + 32);
  readLists(hello);
  // Before TLS 1.3 the extensions may be left out altogether (RFC 5246 §7.4.1.2).
  if (hello.left === 0) return { serverName: null, ech: false };
  const extensions = hello.vector(2, 'extensions');
  if (hello.left > 0) throw new HelloProblem('bytes follow the extensions');
  return readExtensions(extensions);
}

function readLists(hello: Cursor): void {
  if (hello.vector(1, 'session id').left > 32)
    throw new HelloProblem('the session id is longer than 32 bytes');
  const suites = hello.vector(2, 'cipher suites').left;
  if (suites < 2 || suites % 2 !== 0) throw new HelloProblem('the cipher suites are not a list');
  if (hello.vector(1, 'compression methods').left === 0) throw new HelloProblem('no compression method');
}

function readExtensions(extensions: Cursor): HelloBody {
  const seen = new Set<number>();
  let serverName: string | null = null;
  let ech = false;
  while (extensions.left > 0) {
    const type = extensions.uint(2);
    const data = extensions.vector(2, 'extension');
    // RFC 8446 §4.2: no type twice. Else one server could judge the first server name and another the last.
    if (seen.has(type)) throw new HelloProblem(`extension ${type} is given twice`);
    seen.add(type);
    if (hidesServerName.has(type)) ech = true;
    if (type === serverNameExtension) serverName = readServerName(data);
  }
  return { serverName, ech };
}

/** RFC 6066 §3. A list by its grammar, but more than one host_name is forbidden and no other type was ever defined. */
function readServerName(data: Cursor): string {
  const list = data.vector(2, 'server name list');
  if (data.left > 0) throw new HelloProblem('bytes follow the server name list');
  if (list.uint(1) !== hostNameType) throw new HelloProblem('the server name is not a host name');
  const name = list.take(list.uint(2));
  if (list.left > 0) throw new HelloProblem('more than one server name');
  if (name.length === 0 || name.length > maxNameBytes)
    throw new HelloProblem('the server name has a bad length');
  if (!name.every(isPrintable)) throw new HelloProblem('the server name has bytes outside printable ASCII');
  return String.fromCharCode(...name);
}

function isPrintable(byte: number): boolean {
  return byte > 0x20 && byte < 0x7f;
}

/** A forward-only reader of one slice; running out is a HelloProblem, never a read outside the slice. */
class Cursor {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(count: number): Uint8Array {
    const from = this.#at;
    this.skip(count);
    return this.#bytes.subarray(from, this.#at);
  }

  skip(count: number): void {
    if (count > this.left) throw new HelloProblem(`a field runs past the end of the ${this.#what}`);
    this.#at += count;
  }

  uint(bytes: 1 | 2): number {
    this.skip(bytes);
    const low = this.#bytes[this.#at - 1] ?? 0;
    return bytes === 1 ? low : (this.#bytes[this.#at - 2] ?? 0) * 256 + low;
  }

  /** The content of a vector (RFC 8446 §3.4) with a length of `lengthBytes`. */
  vector(lengthBytes: 1 | 2, what: string): Cursor {
    return new Cursor(this.take(this.uint(lengthBytes)), what);
  }
}
