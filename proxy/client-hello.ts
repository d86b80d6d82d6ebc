// Finds the first TLS ClientHello in a stream of bytes, across any split over records and segments. Pure: no sockets, no
// clock, no policy. It sees only the first hello: docs/limits.md says what that leaves out.
import { HelloProblem, readHelloBody } from './hello-body.ts';

/** `bytes` is where the hello ends in what was given; anything after it is the client's to send and ours to forward. */
export type HelloResult =
  | {
      readonly kind: 'complete';
      readonly serverName: string | null;
      readonly ech: boolean;
      readonly bytes: number;
    }
  | { readonly kind: 'need_more' }
  | { readonly kind: 'not_tls' }
  | { readonly kind: 'malformed'; readonly problem: string };

/** Reads a hello piece by piece; work and memory are linear in the bytes pushed, however small the pieces. */
export interface HelloReader {
  /** The verdict on everything pushed so far. Once it is not `need_more` it never changes. */
  push(chunk: Uint8Array): HelloResult;
}

/** Judges `bytes` as the start of a stream. `maxBytes` bounds the hello with its record headers. */
export function parseClientHello(bytes: Uint8Array, maxBytes: number): HelloResult {
  return createHelloReader(maxBytes).push(bytes);
}

/** A reader for one stream; holds at most `maxBytes`. */
export function createHelloReader(maxBytes: number): HelloReader {
  const state = freshState(maxBytes);
  return {
    push(chunk) {
      for (let at = 0; at < chunk.length && state.result.kind === 'need_more';) at += step(state, chunk, at);
      return state.result;
    },
  };
}

interface ReaderState {
  readonly maxBytes: number;
  result: HelloResult;
  /** Wire bytes read. */
  read: number;
  /** Bytes known of the current record header, and what is left of the record's fragment. */
  headerHeld: number;
  fragmentHigh: number;
  fragmentLeft: number;
  /** Bytes known of the handshake header, and the length it gives. */
  prefixHeld: number;
  length: number;
  /** Exactly as long as the handshake header says. */
  body: Uint8Array;
  held: number;
}

const needMore: HelloResult = { kind: 'need_more' };
const handshakeRecord = 22;
const recordHeaderBytes = 5;
const clientHelloMessage = 1;
const handshakeHeaderBytes = 4;
const maxFragmentBytes = 16_384; // RFC 8446 §5.1

function freshState(maxBytes: number): ReaderState {
  const record = { read: 0, headerHeld: 0, fragmentHigh: 0, fragmentLeft: 0 };
  const message = { prefixHeld: 0, length: 0, body: new Uint8Array(0), held: 0 };
  return { maxBytes, result: needMore, ...record, ...message };
}

/** Reads a header byte, or a run of the body, from `chunk` at `at`; returns how many bytes. */
function step(state: ReaderState, chunk: Uint8Array, at: number): number {
  const isBody = state.fragmentLeft > 0 && state.prefixHeld === handshakeHeaderBytes;
  const taken = isBody ? bodyRun(state, chunk.length - at) : 1;
  state.read += taken;
  if (isBody) state.result = takeBody(state, chunk.subarray(at, at + taken));
  else state.result = takeByte(state, chunk[at] ?? 0);
  if (state.result === needMore && state.read >= state.maxBytes) state.result = tooLong(state);
  return taken;
}

/** Never past the record, the message or the limit, so that the verdict does not depend on how bytes were split. */
function bodyRun(state: ReaderState, available: number): number {
  const { body, held, fragmentLeft, maxBytes, read } = state;
  return Math.min(available, body.length - held, fragmentLeft, maxBytes - read);
}

function takeByte(state: ReaderState, byte: number): HelloResult {
  return state.fragmentLeft === 0 ? takeHeaderByte(state, byte) : takePrefixByte(state, byte);
}

function takeHeaderByte(state: ReaderState, byte: number): HelloResult {
  state.headerHeld += 1;
  switch (state.headerHeld) {
    case 1:
      // 0x80 here would be an SSLv2 hello, which has no extensions and so no server name: refused like any other protocol.
      return byte === handshakeRecord
        ? needMore
        : wrongRecord(state, `a record of type ${byte} inside the hello`);
    case 2:
      return byte === 3 ? needMore : wrongRecord(state, 'a record version that is not one of TLS');
    case 3:
      return byte <= 4 ? needMore : wrongRecord(state, 'a record version that is not one of TLS');
    case 4:
      state.fragmentHigh = byte;
      return needMore;
    default:
      return openFragment(state, state.fragmentHigh * 256 + byte);
  }
}

/** Garbage at the very start is another protocol; in the middle of a hello it is a broken or hostile hello. */
function wrongRecord(state: ReaderState, problem: string): HelloResult {
  return state.read <= recordHeaderBytes ? { kind: 'not_tls' } : malformed(problem);
}

function openFragment(state: ReaderState, length: number): HelloResult {
  // RFC 8446 §5.1 forbids empty handshake fragments: a flood of them would cost us and say nothing.
  if (length === 0) return malformed('an empty record');
  if (length > maxFragmentBytes) return malformed('a record longer than 16,384 bytes');
  state.headerHeld = 0;
  state.fragmentLeft = length;
  return needMore;
}

function takePrefixByte(state: ReaderState, byte: number): HelloResult {
  state.fragmentLeft -= 1;
  state.prefixHeld += 1;
  if (state.prefixHeld === 1) {
    return byte === clientHelloMessage
      ? needMore
      : malformed(`a handshake message of type ${byte}, not a hello`);
  }
  state.length = state.length * 256 + byte;
  return state.prefixHeld < handshakeHeaderBytes ? needMore : openBody(state);
}

function openBody(state: ReaderState): HelloResult {
  if (state.length === 0) return malformed('an empty hello');
  if (state.length > state.maxBytes) return tooLong(state);
  state.body = new Uint8Array(state.length);
  return needMore;
}

function takeBody(state: ReaderState, bytes: Uint8Array): HelloResult {
  state.fragmentLeft -= bytes.length;
  state.body.set(bytes, state.held);
  state.held += bytes.length;
  if (state.held < state.body.length) return needMore;
  // What begins in the hello's own record could be the start of another hello, and would reach the server with this one (RFC 8446 §5.1).
  if (state.fragmentLeft > 0) return malformed('handshake bytes follow the hello in its record');
  return judgeBody(state);
}

function judgeBody(state: ReaderState): HelloResult {
  try {
    return { kind: 'complete', ...readHelloBody(state.body), bytes: state.read };
  } catch (error) {
    if (error instanceof HelloProblem) return malformed(error.message);
    throw error;
  }
}

function tooLong({ maxBytes }: ReaderState): HelloResult {
  return malformed(`the hello does not fit in ${maxBytes} bytes`);
}

function malformed(problem: string): HelloResult {
  return { kind: 'malformed', problem };
}
