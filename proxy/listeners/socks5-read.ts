// Takes one SOCKS frame off a connection, within a time limit; its own form bounds its bytes. Knows nothing of what the frames mean.
import type { Conn } from '../conn/index.ts';
import type { Frame } from './socks5-frames.ts';

/** A frame that is whole, or wrong. */
export type WholeFrame<T> = Exclude<Frame<T>, { kind: 'need_more' }>;

/** `stopped`: the signal was aborted; `gone`: the client left before the frame was whole. */
export type ReadFrame<T> =
  | WholeFrame<T>
  | { readonly kind: 'timeout' }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'gone' };

export type Greeting = ReadFrame<{ readonly offersNone: boolean }>;

/** A reader that is given each piece once. The last piece may hold more than the frame. */
export function createFrameReader<T>(
  parse: (bytes: Buffer) => Frame<T>,
): (piece: Buffer) => WholeFrame<T> | undefined {
  let bytes: Buffer = Buffer.alloc(0);
  return (piece) => {
    bytes = bytes.length === 0 ? piece : Buffer.concat([bytes, piece]);
    const frame = parse(bytes);
    return frame.kind === 'need_more' ? undefined : frame;
  };
}

/** Never rejects. What came behind the frame is given back to the connection. */
export async function readFrame<T>(
  client: Conn,
  parse: (bytes: Buffer) => Frame<T>,
  wait: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<ReadFrame<T>> {
  const { found, bytes } = await client.read({ ...wait, look: createFrameReader(parse) });
  if (typeof found === 'string') return { kind: found };
  if (found.kind === 'complete') client.unread(bytes.subarray(found.length));
  return found;
}
