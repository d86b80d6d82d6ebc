// Reads chunked content (RFC 9112 §7.1) from bytes, more strictly than it is written: no extensions, no trailer fields, no bare line feeds. Pure.

/** What the bytes brought: content, in pieces; `rest` stands behind the end. */
export type ChunkResult =
  | { readonly kind: 'more'; readonly data: readonly Buffer[] }
  | { readonly kind: 'end'; readonly data: readonly Buffer[]; readonly rest: Buffer }
  | { readonly kind: 'malformed'; readonly problem: string };

export interface ChunkReader {
  /** Takes the next bytes. Not to be called again after another answer than `more`. */
  push(bytes: Buffer): ChunkResult;
}

const [LF, CR] = [0x0a, 0x0d];
const maxSizeDigits = 8;

/** The line ends that may follow, as what is still expected of them. */
type State =
  | { readonly in: 'size'; readonly digits: string }
  | { readonly in: 'size_lf'; readonly size: number }
  | { readonly in: 'data'; readonly left: number }
  | { readonly in: 'data_cr' }
  | { readonly in: 'data_lf' }
  | { readonly in: 'last_cr' }
  | { readonly in: 'last_lf' }
  | { readonly in: 'end' };

export function createChunkReader(): ChunkReader {
  let state: State = { in: 'size', digits: '' };
  return {
    push(bytes) {
      const data: Buffer[] = [];
      let at = 0;
      while (at < bytes.length && state.in !== 'end') {
        if (state.in === 'data') {
          const piece = bytes.subarray(at, at + state.left);
          data.push(piece);
          at += piece.length;
          state =
            piece.length < state.left ? { in: 'data', left: state.left - piece.length } : { in: 'data_cr' };
        } else {
          const next = step(state, bytes[at] ?? 0);
          if (typeof next === 'string') return { kind: 'malformed', problem: next };
          state = next;
          at += 1;
        }
      }
      return state.in === 'end' ? { kind: 'end', data, rest: bytes.subarray(at) } : { kind: 'more', data };
    },
  };
}

/** One byte outside of data: the next state, or what is wrong. */
function step(state: Exclude<State, { in: 'data' | 'end' }>, byte: number): State | string {
  switch (state.in) {
    case 'size':
      return sizeStep(state.digits, byte);
    case 'size_lf':
      if (byte !== LF) return badLine;
      return state.size === 0 ? { in: 'last_cr' } : { in: 'data', left: state.size };
    case 'data_cr':
      return byte === CR ? { in: 'data_lf' } : 'a chunk is longer than its size';
    case 'data_lf':
      return byte === LF ? { in: 'size', digits: '' } : badLine;
    case 'last_cr':
      return byte === CR ? { in: 'last_lf' } : 'trailer fields are not taken';
    case 'last_lf':
      return byte === LF ? { in: 'end' } : badLine;
    default:
      return state satisfies never;
  }
}

const badLine = 'a chunk line does not end in carriage return and line feed';

function sizeStep(digits: string, byte: number): State | string {
  if (byte === CR && digits !== '') return { in: 'size_lf', size: Number.parseInt(digits, 16) };
  const digit = String.fromCodePoint(byte);
  if (!/^[\dA-Fa-f]$/u.test(digit)) return 'a chunk size is not a plain hexadecimal number';
  return digits.length < maxSizeDigits ? { in: 'size', digits: digits + digit } : 'a chunk size is too large';
}
