// Sends the first hello upstream and watches the answer: a server that asks for a second hello gets it only after that one has been read too.
// Without this a client could name an allowed host first and another in the hello that counts. Decides nothing.
import type { ServerNameFact } from '../policy/index.ts';
import { createHelloReader, parseClientHello } from './client-hello.ts';
import type { Conn } from './conn/index.ts';
import { readServerAnswer } from './server-answer.ts';
import { factOf } from './sniff.ts';

export interface RetryRequest {
  readonly client: Conn;
  readonly upstream: Conn;
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

/** How far it came. What still has to go across is held by the two connections. */
export interface Followed {
  /** What a second hello says; undefined when the server did not ask for one. */
  readonly fact?: ServerNameFact;
  /** True when the server did not answer in time. */
  readonly isSilent: boolean;
  /** Bytes that went across here. */
  readonly sent: { readonly up: number; readonly down: number };
}

/** Never rejects: a side that leaves is for the relay to find. */
export async function followHello(request: RetryRequest): Promise<Followed> {
  const { client, upstream, answerTimeoutMs: timeoutMs, signal } = request;
  const up = sendHello(request);
  const wait = { other: client, timeoutMs, signal };
  const { found } = await upstream.read({ ...wait, look: createAnswerReader(), isPeek: true });
  if (found !== 'retry') return { isSilent: found === 'timeout', sent: { up, down: 0 } };
  const { bytes } = await upstream.read({ ...wait, look: () => true });
  client.write(bytes);
  return { fact: await readSecond(request), isSilent: false, sent: { up, down: bytes.length } };
}

/** What the client sent right behind its hello may be the start of a second one: it waits until the server has said whether it wants that. */
function sendHello({ client, upstream, hello, maxBytes }: RetryRequest): number {
  const read = parseClientHello(hello, maxBytes);
  // INVARIANT: what comes here has passed the third gate, so it is complete.
  const end = read.kind === 'complete' ? read.bytes : hello.length;
  client.unread(hello.subarray(end));
  upstream.write(hello.subarray(0, end));
  return end;
}

function createAnswerReader(): (piece: Buffer) => 'retry' | 'settled' | undefined {
  let bytes: Buffer = Buffer.alloc(0);
  return (piece) => {
    bytes = bytes.length === 0 ? piece : Buffer.concat([bytes, piece]);
    const answer = readServerAnswer(bytes);
    return answer === 'need_more' ? undefined : answer;
  };
}

/** The second hello stays with the client's connection until it is judged. */
async function readSecond({
  client,
  upstream,
  maxBytes,
  helloTimeoutMs: timeoutMs,
  signal,
}: RetryRequest): Promise<ServerNameFact> {
  const look = createSecondReader(maxBytes);
  const { found, bytes } = await client.read({ look, other: upstream, timeoutMs, signal });
  client.unread(bytes);
  if (found === 'timeout') return { kind: 'timeout' };
  return typeof found === 'string' ? { kind: 'closed' } : found;
}

const [changeCipherSpec, applicationData] = [20, 23];
const recordHeaderBytes = 5;

/**
 * Early data that was on its way, and a dummy record for old boxes, may come before the second hello (RFC 8446 §4.2.10,
 * appendix D.4). Each byte is looked at once.
 */
function createSecondReader(maxBytes: number): (piece: Buffer) => ServerNameFact | undefined {
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
