// Takes one request head off a socket, within a byte and a time limit. Knows HTTP framing only, not what was asked for.
import type { Socket } from 'node:net';
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

/** Never rejects. Leaves the socket paused; Node goes on filling its buffer up to the high-water mark, and no further. */
export function readHead(client: Socket, { maxBytes, timeoutMs, signal }: HeadLimits): Promise<ReadHead> {
  const { promise, resolve } = Promise.withResolvers<ReadHead>();
  const reader = createHeadReader(maxBytes);
  const settle = (result: ReadHead): void => {
    client.pause();
    clearTimeout(timer);
    client.off('data', onData).off('end', onGone).off('close', onGone);
    signal.removeEventListener('abort', onStop);
    resolve(result);
  };
  const onData = (chunk: Buffer): void => {
    const result = reader.push(chunk);
    if (result.kind !== 'need_more') settle(result);
  };
  const onGone = (): void => settle({ kind: 'gone' });
  const onStop = (): void => settle({ kind: client.destroyed ? 'gone' : 'stopped' });
  const timer = setTimeout(settle, timeoutMs, { kind: 'timeout' });
  client.on('data', onData).on('end', onGone).on('close', onGone);
  signal.addEventListener('abort', onStop);
  if (signal.aborted || client.destroyed) onStop();
  return promise;
}
