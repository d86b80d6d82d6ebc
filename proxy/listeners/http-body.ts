// The content of one request, off the client's connection piece by piece, as its framing says. Knows nothing of upstream.
import type { Conn } from '../conn/index.ts';
import { RequestFault } from '../errors.ts';
import { createChunkReader, type ChunkResult } from './http-chunks.ts';
import type { Framing } from './http-framing.ts';

/** The client left, fell silent, or was no longer wanted, before its content was whole. */
export class BodyCut extends Error {
  override readonly name = 'BodyCut';
  readonly why: 'gone' | 'timeout' | 'stopped';

  constructor(why: BodyCut['why']) {
    super(`the content of the request was cut: ${why}`);
    this.why = why;
  }
}

export interface BodyOptions {
  readonly framing: Exclude<Framing, { kind: 'none' }>;
  /** For each piece. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Yields content only; what comes behind it is given back. Throws RequestFault before it yields anything of the piece that is at fault. */
export async function* readBody(
  client: Conn,
  { framing, ...wait }: BodyOptions,
): AsyncGenerator<Buffer, void> {
  const reader = framing.kind === 'chunked' ? createChunkReader() : createLengthReader(framing.bytes);
  for (;;) {
    const { found, bytes } = await client.read({ ...wait, look: () => true });
    if (typeof found === 'string') throw new BodyCut(found);
    const result = reader.push(bytes);
    if (result.kind === 'malformed') throw new RequestFault(result.problem);
    if (result.kind === 'end') client.unread(result.rest);
    if (result.data.length > 0) yield Buffer.concat(result.data);
    if (result.kind === 'end') return;
  }
}

function createLengthReader(length: number): { push(bytes: Buffer): ChunkResult } {
  let left = length;
  return {
    push(bytes) {
      const data = [bytes.subarray(0, left)];
      left -= Math.min(left, bytes.length);
      const rest = bytes.subarray(data[0]?.length);
      return left === 0 ? { kind: 'end', data, rest } : { kind: 'more', data };
    },
  };
}
