// Reads the head of an HTTP/1 request from bytes, strictly and within a byte limit. Pure: no sockets, no meaning of any field.
// Stricter than RFC 9112 allows to be lenient: what two readers could read differently is refused (§2.2, §5.1, §5.2).

/** Name in lower case, value without surrounding blanks. */
export type Field = readonly [name: string, value: string];

export interface RequestHead {
  readonly method: string;
  /** As sent, without blanks and control bytes; a byte above ASCII is the character of its number (latin1). */
  readonly target: string;
  readonly fields: readonly Field[];
  /** HTTP/1.`minor`. */
  readonly minor: 0 | 1;
}

export type HeadResult =
  | { readonly kind: 'need_more' }
  | { readonly kind: 'complete'; readonly head: RequestHead; readonly rest: Buffer }
  | { readonly kind: 'malformed'; readonly problem: string }
  | { readonly kind: 'too_large' };

export interface HeadReader {
  /** Takes the next bytes; each byte is looked at once. Not to be called again after another answer than `need_more`. */
  push(chunk: Buffer): HeadResult;
}

const [HTAB, LF, CR, SPACE, DEL] = [0x09, 0x0a, 0x0d, 0x20, 0x7f];

/** A reader for one head of at most `maxBytes`, its empty line included. */
export function createHeadReader(maxBytes: number): HeadReader {
  let bytes: Buffer = Buffer.alloc(0);
  return {
    push(chunk) {
      const from = bytes.length;
      bytes = from === 0 ? chunk : Buffer.concat([bytes, chunk]);
      const found = findEnd(bytes, from, maxBytes);
      if (typeof found !== 'number') return found;
      const read = readHead(bytes.toString('latin1', 0, found - 4));
      return 'problem' in read
        ? malformed(read.problem)
        : { kind: 'complete', head: read, rest: bytes.subarray(found) };
    },
  };
}

/** Where the empty line ends, if every byte up to there may stand in a head. */
function findEnd(bytes: Buffer, from: number, maxBytes: number): number | HeadResult {
  for (let i = from; i < Math.min(bytes.length, maxBytes); i += 1) {
    const problem = badByte(bytes[i] ?? 0, bytes[i - 1]);
    if (problem !== undefined) return malformed(problem);
    if (bytes[i] === LF && bytes[i - 2] === LF) return i + 1;
  }
  return bytes.length >= maxBytes ? { kind: 'too_large' } : { kind: 'need_more' };
}

function badByte(byte: number, before: number | undefined): string | undefined {
  if (byte === LF) return before === CR ? undefined : 'a line ends without a carriage return';
  if (before === CR) return 'a carriage return stands alone';
  if (byte === CR || byte === HTAB || (byte >= SPACE && byte !== DEL)) return undefined;
  return 'there is a control byte in the request head';
}

function malformed(problem: string): HeadResult {
  return { kind: 'malformed', problem };
}

interface Bad {
  readonly problem: string;
}

/** Methods are case-sensitive (RFC 9110 §9.1), yet some servers take `get` for `GET`, and `head` has an answer without content for them. */
const capitals = /^[A-Z][A-Z-]*$/u;
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/u;
const requestLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\u0021-\u007e\u0080-\u00ff]+) HTTP\/1\.([01])$/u;

function readHead(text: string): RequestHead | Bad {
  const [first = '', ...lines] = text.split('\r\n');
  const [, method, target, minor] = requestLine.exec(first) ?? [];
  if (method === undefined || target === undefined)
    return { problem: 'the first line is not an HTTP/1 request line' };
  if (!capitals.test(method)) return { problem: 'the method is not in capital letters' };
  const fields: Field[] = [];
  for (const line of lines) {
    const field = readField(line);
    if ('problem' in field) return field;
    fields.push(field);
  }
  return { method, target, fields, minor: minor === '0' ? 0 : 1 };
}

function readField(line: string): Field | Bad {
  if (line.startsWith(' ') || line.startsWith('\t'))
    return { problem: 'a header field is folded over two lines' };
  const colon = line.indexOf(':');
  const name = line.slice(0, Math.max(colon, 0));
  if (!token.test(name)) return { problem: 'a header field has no proper name' };
  return [name.toLowerCase(), withoutBlanks(line.slice(colon + 1))];
}

/** RFC 9110 §5.6.3: space and tab. trim() would take a byte 0xa0 for a blank too, which other readers do not. */
function withoutBlanks(value: string): string {
  let [start, end] = [0, value.length];
  while (start < end && isBlank(value.charCodeAt(start))) start += 1;
  while (end > start && isBlank(value.charCodeAt(end - 1))) end -= 1;
  return value.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === SPACE || code === HTAB;
}
