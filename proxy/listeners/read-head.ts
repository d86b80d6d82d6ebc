// Takes one request head off a connection, within a byte and a time limit. Knows HTTP framing only, not what was asked for.
import type { Conn } from '../conn/index.ts';
import { createHeadReader, type HeadResult } from './request-head.ts';

/** `stopped`: the signal was aborted; `gone`: the client left, whole or with its sending side, before the head was complete. */
export type ReadHead =
  | Exclude<HeadResult, { kind: 'need_more' }>
  | { readonly kind: 'timeout' }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'gone' };

export interface HeadLimits {
  readonly maxBytes: number;
  /** For the whole head, from now: bytes that trickle in do not prolong it. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** The next head of a client that was served before: one that says nothing more is gone. Never rejects. What came behind the head is given back to the connection. */
export async function readHead(client: Conn, { maxBytes, ...wait }: HeadLimits): Promise<ReadHead> {
  const reader = createHeadReader(maxBytes);
  const { found, bytes } = await client.read({ ...wait, look: (piece) => whole(reader.push(piece)) });
  // Nobody waits for an answer: it is closed without one, also when the proxy goes away.
  if ((found === 'timeout' || found === 'stopped') && bytes.length === 0) return { kind: 'gone' };
  if (typeof found === 'string') return { kind: found };
  if (found.kind === 'complete') client.unread(found.rest);
  return found;
}

function whole(result: HeadResult): Exclude<HeadResult, { kind: 'need_more' }> | undefined {
  return result.kind === 'need_more' ? undefined : result;
}
