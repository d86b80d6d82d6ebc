// Sends the first hello upstream and watches the answer: a server that asks for a second hello gets it only after that one has been read too.
// Without this a client could name an allowed host first and another in the hello that counts. Decides nothing.
import type { Socket } from 'node:net';
import type { ServerNameFact } from '../policy/index.ts';
import { createHelloReader, parseClientHello } from './client-hello.ts';
import { readServerAnswer } from './server-answer.ts';
import { factOf } from './sniff.ts';

export interface RetryRequest {
  readonly client: Socket;
  readonly upstream: Socket;
  /** The first hello, confirmed, and whatever the client sent right behind it: only the hello goes upstream at once. */
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
  const { client, upstream, answerTimeoutMs, signal } = request;
  const { hello, rest } = cutBehindHello(request);
  upstream.write(hello);
  const wait = { other: client, timeoutMs: answerTimeoutMs, signal };
  const read = await gather(upstream, noBytes, wait, createAnswerReader());
  const up = hello.length;
  if (read.found !== 'retry') {
    const isSilent = read.found === 'timeout';
    return { isSilent, held: rest, sent: { up, down: giveBack(read.bytes, request) } };
  }
  client.write(read.bytes);
  const second = await readSecond(request, rest);
  return { ...second, isSilent: false, sent: { up, down: read.bytes.length } };
}

/** What the client sent right behind its hello may be the start of a second one: it waits until the server has said whether it wants that. */
function cutBehindHello({ hello, maxBytes }: RetryRequest): { hello: Buffer; rest: Buffer } {
  const read = parseClientHello(hello, maxBytes);
  // INVARIANT: what comes here has passed the third gate, so it is complete.
  const end = read.kind === 'complete' ? read.bytes : hello.length;
  return { hello: hello.subarray(0, end), rest: hello.subarray(end) };
}

function createAnswerReader(): Look<'retry' | 'settled'> {
  let bytes: Buffer = noBytes;
  return (chunk) => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const answer = readServerAnswer(bytes);
    return answer === 'need_more' ? undefined : answer;
  };
}

/** Puts `bytes` back for the relay; a stream that has ended takes nothing back, so they go on at once. Returns how many did. */
function giveBack(bytes: Buffer, { client, upstream }: RetryRequest): number {
  if (bytes.length === 0) return 0;
  if (upstream.readableEnded) client.write(bytes);
  else upstream.unshift(bytes);
  return upstream.readableEnded ? bytes.length : 0;
}

async function readSecond(
  { client, upstream, maxBytes, helloTimeoutMs: timeoutMs, signal }: RetryRequest,
  already: Buffer,
): Promise<Pick<Followed, 'held'> & { fact: ServerNameFact }> {
  const { found, bytes } = await gather(
    client,
    already,
    { other: upstream, timeoutMs, signal },
    createSecondReader(maxBytes),
  );
  if (found === 'timeout') return { fact: { kind: 'timeout' }, held: bytes };
  return { fact: found === 'gone' ? { kind: 'closed' } : found, held: bytes };
}

const [changeCipherSpec, applicationData] = [20, 23];
const recordHeaderBytes = 5;

/**
 * Early data that was on its way, and a dummy record for old boxes, may come before the second hello (RFC 8446 §4.2.10,
 * appendix D.4). Each byte is looked at once.
 */
function createSecondReader(maxBytes: number): Look<ServerNameFact> {
  const reader = createHelloReader(maxBytes);
  const header: number[] = [];
  let [seen, skip, isHello] = [0, 0, false];
  return (chunk) => {
    let at = 0;
    while (!isHello && at < chunk.length) {
      const byte = chunk[at] ?? 0;
      isHello = skip === 0 && header.length === 0 && byte !== changeCipherSpec && byte !== applicationData;
      if (isHello) break;
      const step = skip > 0 ? Math.min(skip, chunk.length - at) : 1;
      if (skip > 0) skip -= step;
      else if (header.push(byte) === recordHeaderBytes) skip = lengthIn(header.splice(0));
      at += step;
    }
    seen += chunk.length;
    const fact = isHello ? factOf(reader.push(chunk.subarray(at))) : undefined;
    if (fact !== undefined || seen < maxBytes) return fact;
    return { kind: 'malformed', problem: `the second hello does not end within ${maxBytes} bytes` };
  };
}

function lengthIn([, , , high = 0, low = 0]: readonly number[]): number {
  return high * 256 + low;
}

/** Is given each piece once; undefined means that it wants more. */
type Look<T> = (chunk: Buffer) => T | undefined;

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

/** Reads `from`, whose stream begins with `already`, until `look` knows, one side leaves, or time is up. */
function gather<T>(from: Socket, already: Buffer, wait: Wait, look: Look<T>): Promise<Gathered<T>> {
  const { promise, resolve } = Promise.withResolvers<Gathered<T>>();
  const chunks = [already];
  const settle = (found: T | 'gone' | 'timeout'): void => {
    from.pause();
    clearTimeout(timer);
    from.off('data', onData).off('end', onGone).off('close', onGone);
    wait.other.off('close', onGone);
    wait.signal.removeEventListener('abort', onGone);
    resolve({ bytes: Buffer.concat(chunks), found });
  };
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    const found = look(chunk);
    if (found !== undefined) settle(found);
  };
  const onGone = (): void => settle('gone');
  const timer = setTimeout(() => settle('timeout'), wait.timeoutMs);
  from.on('data', onData).on('end', onGone).on('close', onGone);
  wait.other.on('close', onGone);
  wait.signal.addEventListener('abort', onGone);
  const known = already.length > 0 ? look(already) : undefined;
  if (known !== undefined) settle(known);
  else if (from.destroyed || from.readableEnded || wait.other.destroyed || wait.signal.aborted) onGone();
  else from.resume();
  return promise;
}
