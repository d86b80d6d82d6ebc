// Sends the first hello upstream and watches the answer: a server that asks for a second hello gets it only after that one has been read too.
// Without this a client could name an allowed host first and another in the hello that counts. Decides nothing.
import type { Socket } from 'node:net';
import type { ServerNameFact } from '../policy/index.ts';
import { createHelloReader } from './client-hello.ts';
import { readServerAnswer } from './server-answer.ts';
import { factOf } from './sniff.ts';

export interface RetryRequest {
  readonly client: Socket;
  readonly upstream: Socket;
  /** The first hello, and whatever the client sent right behind it. */
  readonly hello: Buffer;
  readonly maxBytes: number;
  /** For the second hello. */
  readonly helloTimeoutMs: number;
  /** For the server's answer. */
  readonly answerTimeoutMs: number;
  /** Ends every wait; what comes back then is not to be used. */
  readonly signal: AbortSignal;
}

/** How far it came. Both sockets are paused and have lost nothing. */
export interface Followed {
  /** What a second hello says; undefined when the server did not ask for one. */
  readonly fact?: ServerNameFact;
  /** True when the server did not answer in time. */
  readonly isSilent: boolean;
  /** Bytes of the client that still have to go upstream. */
  readonly held: Buffer;
  /** Bytes that went across here. */
  readonly sent: { readonly up: number; readonly down: number };
}

const noBytes = Buffer.alloc(0);

/** Never rejects: a side that leaves is for the relay to find. */
export async function followHello(request: RetryRequest): Promise<Followed> {
  const { client, upstream, hello, answerTimeoutMs, signal } = request;
  upstream.write(hello);
  const read = await gather(upstream, { other: client, timeoutMs: answerTimeoutMs, signal }, (bytes) => {
    const answer = readServerAnswer(bytes);
    return answer === 'need_more' ? undefined : answer;
  });
  const up = hello.length;
  if (read.found !== 'retry') {
    const isSilent = read.found === 'timeout';
    return { isSilent, held: noBytes, sent: { up, down: giveBack(read.bytes, request) } };
  }
  client.write(read.bytes);
  const second = await readSecond(request);
  return { ...second, isSilent: false, sent: { up, down: read.bytes.length } };
}

/** Puts `bytes` back for the relay; a stream that has ended takes nothing back, so they go on at once. Returns how many did. */
function giveBack(bytes: Buffer, { client, upstream }: RetryRequest): number {
  if (bytes.length === 0) return 0;
  if (upstream.readableEnded) client.write(bytes);
  else upstream.unshift(bytes);
  return upstream.readableEnded ? bytes.length : 0;
}

async function readSecond(
  request: RetryRequest,
): Promise<Pick<Followed, 'fact' | 'held'> & { fact: ServerNameFact }> {
  const { client, upstream, maxBytes, helloTimeoutMs: timeoutMs, signal } = request;
  const read = await gather(client, { other: upstream, timeoutMs, signal }, (bytes) =>
    judge(bytes, maxBytes),
  );
  if (read.found === 'timeout') return { fact: { kind: 'timeout' }, held: read.bytes };
  return { fact: read.found === 'gone' ? { kind: 'closed' } : read.found, held: read.bytes };
}

const [changeCipherSpec, applicationData] = [20, 23];
const recordHeaderBytes = 5;

/** Early data that was on its way, and a dummy record for old boxes, may come before the second hello (RFC 8446 §4.2.10, appendix D.4). */
function judge(bytes: Buffer, maxBytes: number): ServerNameFact | undefined {
  let at = 0;
  while (bytes[at] === changeCipherSpec || bytes[at] === applicationData) {
    at =
      bytes.length - at < recordHeaderBytes
        ? bytes.length
        : at + recordHeaderBytes + bytes.readUInt16BE(at + 3);
  }
  const fact = at < bytes.length ? factOf(createHelloReader(maxBytes).push(bytes.subarray(at))) : undefined;
  if (fact !== undefined || bytes.length < maxBytes) return fact;
  return { kind: 'malformed', problem: `the second hello does not end within ${maxBytes} bytes` };
}

interface Wait {
  /** The other side; when it goes, nothing more can come of waiting. */
  readonly other: Socket;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

interface Gathered<T> {
  readonly bytes: Buffer;
  readonly found: T | 'gone' | 'timeout';
}

/** Reads `from` until `look` knows, one side leaves, or time is up. */
function gather<T>(from: Socket, wait: Wait, look: (bytes: Buffer) => T | undefined): Promise<Gathered<T>> {
  const { promise, resolve } = Promise.withResolvers<Gathered<T>>();
  let bytes: Buffer = noBytes;
  const settle = (found: T | 'gone' | 'timeout'): void => {
    from.pause();
    clearTimeout(timer);
    from.off('data', onData).off('end', onGone).off('close', onGone);
    wait.other.off('close', onGone);
    wait.signal.removeEventListener('abort', onGone);
    resolve({ bytes, found });
  };
  const onData = (chunk: Buffer): void => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const found = look(bytes);
    if (found !== undefined) settle(found);
  };
  const onGone = (): void => settle('gone');
  const timer = setTimeout(() => settle('timeout'), wait.timeoutMs);
  from.on('data', onData).on('end', onGone).on('close', onGone);
  wait.other.on('close', onGone);
  wait.signal.addEventListener('abort', onGone);
  if (from.destroyed || from.readableEnded || wait.other.destroyed || wait.signal.aborted) onGone();
  else from.resume();
  return promise;
}
