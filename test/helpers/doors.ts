// Every door of the proxy from the client's side: the bytes that ask for a target, what a door has no way to say, and what an answer says.
// Judges nothing; what the proxy put on record is compared by whoever asks.
import { randomInt } from 'node:crypto';
import { connect } from 'node:net';
import { parseTarget, type Mode } from '../../policy/index.ts';
import { buildHello } from './hello.ts';
import { addressRequest, greeting, nameRequest } from './socks.ts';

/** A target as it is typed, in the two parts that most protocols send apart. `port` is undefined when there is none. */
export interface TypedTarget {
  readonly text: string;
  readonly host: string;
  readonly port: string | undefined;
}

/** Why a door has no way to say a target, and which ones. */
export type Cannot = readonly [why: string, isSo: (target: TypedTarget) => boolean];

export interface LiveDoor {
  readonly name: string;
  /** How its clients are judged. */
  readonly mode: Mode;
  /** `proxy` is the port that takes three protocols; `transparent` the port that the target names. */
  readonly at: 'proxy' | 'transparent';
  readonly cannot: readonly Cannot[];
  says(target: TypedTarget): Buffer;
  /** `allow`, `deny`, or `deny` and the reason where the protocol has a word for it; `nothing` for no answer. */
  told(answer: Buffer): string;
}

/** Ports of the transparent doors in tests: above what needs a right to listen, below what the kernel hands out. */
export const transparentPorts: readonly number[] = [20_443, 28_443, 20_080];

/** A loopback address that no other test listens at. */
export function ownLoopback(): string {
  return `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;
}

export function typedTarget(text: string): TypedTarget {
  const at = text.lastIndexOf(':');
  if (at === -1 || text.endsWith(']')) return { text, host: text, port: undefined };
  return { text, host: text.slice(0, at), port: text.slice(at + 1) };
}

const isPortNumber = (port: string | undefined): boolean =>
  port !== undefined && /^(?:0|[1-9]\d{0,4})$/u.test(port) && Number(port) < 65_536;
const isDoorPort = (port: string | undefined): boolean =>
  transparentPorts.some((one) => String(one) === port);
const isAddress = ({ text }: TypedTarget): boolean => parseTarget(text).kind === 'address';
const isElsewhere = ({ text }: TypedTarget): boolean => {
  const read = parseTarget(text);
  return read.kind !== 'malformed' && !transparentPorts.includes(read.port);
};
const nameBytes = ({ host }: TypedTarget): number => Buffer.byteLength(host);

/** In the order of the table that a reader wants: one port for three protocols, then the doors that are taken for the origin. */
export const doors: readonly LiveDoor[] = [
  {
    name: 'CONNECT',
    mode: 'connect',
    at: 'proxy',
    cannot: [],
    says: ({ text }) => Buffer.from(`CONNECT ${text} HTTP/1.1\r\nHost: ${text}\r\n\r\n`),
    told: toldByHttp,
  },
  {
    name: 'plain HTTP',
    mode: 'http',
    at: 'proxy',
    cannot: [['a URL without a port means port 80', ({ port }) => port === undefined]],
    says: ({ text }) =>
      Buffer.from(`GET http://${text}/ HTTP/1.1\r\nHost: ${text}\r\nConnection: close\r\n\r\n`),
    told: toldByHttp,
  },
  {
    name: 'SOCKS5 by name',
    mode: 'socks5',
    at: 'proxy',
    cannot: [
      ['a port is two bytes', ({ port }) => !isPortNumber(port)],
      ['a name has at most 255 bytes', (target) => nameBytes(target) > 255],
    ],
    says: ({ host, port }) => Buffer.concat([greeting, nameRequest(host, Number(port))]),
    told: toldBySocks,
  },
  {
    name: 'SOCKS5 by address',
    mode: 'socks5',
    at: 'proxy',
    cannot: [['it has an address and no name', (target) => !isAddress(target)]],
    says: ({ text }) => Buffer.concat([greeting, addressFrame(text)]),
    told: toldBySocks,
  },
  {
    name: 'transparent TLS',
    mode: 'transparent',
    at: 'transparent',
    cannot: [
      ['the port is the one that the client came to', ({ port }) => !isDoorPort(port)],
      ['a server name has 1 to 255 bytes', (t) => nameBytes(t) === 0 || nameBytes(t) > 255],
      ['a hello with other bytes in its name is none', ({ host }) => /[^\u0021-\u007e]/u.test(host)],
      ['a server name has no brackets', (target) => isAddress(target) && target.host.startsWith('[')],
    ],
    says: ({ host }) => buildHello({ serverName: host }),
    told: toldByTls,
  },
  {
    name: 'transparent HTTP',
    mode: 'http',
    at: 'transparent',
    cannot: [
      ['a Host without a port means port 80', ({ port }) => port === undefined],
      ['the port is the one that the client came to', isElsewhere],
      ['a line break ends a field', ({ text }) => /[\r\n]/u.test(text)],
      ['blanks around a field are not of its value', ({ text }) => /^[ \t]|[ \t]$/u.test(text)],
    ],
    says: ({ text }) => Buffer.from(`GET / HTTP/1.1\r\nHost: ${text}\r\nConnection: close\r\n\r\n`),
    told: toldByHttp,
  },
];

/** Why `door` has no way to say `target`; undefined when it has one. */
export function whyNot(door: Pick<LiveDoor, 'cannot'>, target: TypedTarget): string | undefined {
  return door.cannot.find(([, isSo]) => isSo(target))?.[0];
}

function addressFrame(text: string): Buffer {
  const read = parseTarget(text);
  if (read.kind !== 'address') throw new Error(`\`${text}\` is no address`);
  return addressRequest(read.address.bytes, read.port);
}

/** A 502 says that the answer was yes and that nobody was there. */
function toldByHttp(answer: Buffer): string {
  const text = answer.toString('latin1');
  const [, status] = /^HTTP\/1\.1 (\d{3}) /u.exec(text) ?? [];
  if (status === '200' || status === '502') return 'allow';
  const [, reason] = /\r\nSallyport-Reason: (\w+)\r\n/u.exec(text) ?? [];
  return status === undefined ? 'nothing' : `deny ${reason}`;
}

/** RFC 1928 §6: 0 and 5 are of the world, 1 and 2 are ours. */
function toldBySocks(answer: Buffer): string {
  const [, method, , reply] = answer;
  if (method === undefined) return 'nothing';
  return reply === 0 || reply === 5 ? 'allow' : 'deny';
}

/** Anything but an alert is the origin's. */
function toldByTls(answer: Buffer): string {
  if (answer.length === 0) return 'nothing';
  return answer[0] === 21 && answer[6] === 49 ? 'deny' : 'allow';
}

export interface Asked {
  /** All that was answered, until the proxy ended it. */
  readonly answer: Buffer;
  /** It ended with a RST. */
  readonly wasReset: boolean;
  /** Both ends, as the record has them: `peer listener`. */
  readonly who: string;
}

/** Goes to `address:port`, sends `bytes` in one piece, and reads until the end. */
export async function askAt(address: string, port: number, bytes: Buffer): Promise<Asked> {
  const socket = connect({ host: address, port, allowHalfOpen: true, noDelay: true });
  const pieces: Buffer[] = [];
  const { promise, resolve } = Promise.withResolvers<boolean>();
  let who = '';
  socket.once('connect', () => {
    who = `${socket.localAddress}:${socket.localPort} ${address}:${port}`;
    socket.write(bytes);
  });
  socket.on('data', (piece: Buffer) => void pieces.push(piece));
  socket.once('end', () => resolve(false));
  socket.once('error', () => resolve(true));
  const wasReset = await promise;
  socket.destroy();
  return { answer: Buffer.concat(pieces), wasReset, who };
}
