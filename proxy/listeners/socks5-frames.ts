// Reads the two frames of a SOCKS5 client from bytes (RFC 1928 §3, §4), strictly; at most 262 bytes each. Pure: no sockets, no verdicts.
import { addressFromBytes, type Target } from '../../policy/index.ts';
import { readAuthority } from './authority.ts';

/** `reply` is the one that says why in the protocol; without it a general failure. `length`: bytes of the frame; what follows is not its. */
export type Frame<T> =
  | { readonly kind: 'need_more' }
  | { readonly kind: 'malformed'; readonly problem: string; readonly reply?: number }
  | { readonly kind: 'complete'; readonly value: T; readonly length: number };

/** The first byte of both frames, and of every answer. */
export const socksVersion = 5;

/** Replies of RFC 1928 §6. */
export const replies = {
  succeeded: 0,
  generalFailure: 1,
  notAllowed: 2,
  hostUnreachable: 4,
  connectionRefused: 5,
  commandNotSupported: 7,
  addressTypeNotSupported: 8,
} as const;

const [noAuthentication, connectCommand, nameType] = [0, 1, 3];
const needMore = { kind: 'need_more' } as const;

/** The authentication methods that are offered, behind the version that brought the bytes here: is "none" among them? */
export function parseGreeting(bytes: Buffer): Frame<{ readonly offersNone: boolean }> {
  const [, count] = bytes;
  if (count === 0) return malformed('the greeting offers no authentication method');
  const length = 2 + (count ?? 0);
  if (count === undefined || bytes.length < length) return needMore;
  const offersNone = bytes.subarray(2, length).includes(noAuthentication);
  return { kind: 'complete', value: { offersNone }, length };
}

/** What the client wants to reach. */
export function parseRequest(bytes: Buffer): Frame<Target> {
  const problem = headProblem(bytes);
  if (problem !== undefined) return problem;
  const [, , , type, nameLength] = bytes;
  if (type === undefined || (type === nameType && nameLength === undefined)) return needMore;
  const start = type === nameType ? 5 : 4;
  const size = type === nameType ? nameLength : addressSizes.get(type);
  if (size === undefined)
    return malformed('the address type is none of 1, 3 and 4', replies.addressTypeNotSupported);
  const end = start + size;
  if (bytes.length < end + 2) return needMore;
  const host = bytes.subarray(start, end);
  const text = type === nameType ? host.toString() : literal(host);
  return { kind: 'complete', value: readAuthority(`${text}:${bytes.readUInt16BE(end)}`), length: end + 2 };
}

/** Bytes of an address, by its type. */
const addressSizes: ReadonlyMap<number, number> = new Map([
  [1, 4],
  [4, 16],
]);

function headProblem([version, command, reserved]: Buffer): Frame<never> | undefined {
  if (version !== undefined && version !== socksVersion)
    return malformed('the request is not of SOCKS version 5');
  if (command !== undefined && command !== connectCommand)
    return malformed('only the CONNECT command is served', replies.commandNotSupported);
  return reserved === undefined || reserved === 0
    ? undefined
    : malformed('the reserved byte of the request is not 0');
}

function literal(bytes: Buffer): string {
  const { family, text } = addressFromBytes(bytes);
  return family === 6 ? `[${text}]` : text;
}

function malformed(problem: string, reply?: number): Frame<never> {
  return { kind: 'malformed', problem, ...(reply === undefined ? {} : { reply }) };
}
