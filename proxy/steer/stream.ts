// DNS over TCP (RFC 7766): messages with a length before each, one after the other, within bounds of bytes, time and number. Reads no message.
import type { Conn } from '../conn/index.ts';
import { maxQueryBytes } from './message.ts';

export interface StreamOptions {
  /** The answer to one message; undefined: none is due. */
  readonly answer: (message: Buffer) => Buffer | undefined;
  /** For each message, from the end of the one before. */
  readonly timeoutMs: number;
  /** Ends the connection. */
  readonly signal: AbortSignal;
}

/** Honest clients ask two questions, perhaps four. What is not read is at most so many answers. */
const maxMessages = 64;

/** Serves `conn` to its end, which is here. Never rejects for anything a client does. */
export async function serveStream(conn: Conn, { answer, ...wait }: StreamOptions): Promise<void> {
  for (let count = 0; count < maxMessages; count += 1) {
    const message = await readMessage(conn, wait);
    const said = message === undefined ? undefined : answer(message);
    if (said === undefined) break;
    conn.write(Buffer.concat([lengthOf(said), said]));
  }
  conn.close();
}

function lengthOf({ length }: Buffer): Buffer {
  return Buffer.of(length >> 8, length & 0xff);
}

/** One message without its length; undefined when the client left, was slow, or announced one that is too long to be read. */
async function readMessage(
  conn: Conn,
  wait: Pick<StreamOptions, 'timeoutMs' | 'signal'>,
): Promise<Buffer | undefined> {
  let bytes: Buffer = Buffer.alloc(0);
  const { found } = await conn.read({
    ...wait,
    look(piece) {
      bytes = bytes.length === 0 ? piece : Buffer.concat([bytes, piece]);
      if (bytes.length < 2) return undefined;
      const end = 2 + bytes.readUInt16BE(0);
      if (end > 2 + maxQueryBytes) return 'too_long';
      return bytes.length < end ? undefined : { end };
    },
  });
  if (typeof found === 'string') return undefined;
  conn.unread(bytes.subarray(found.end));
  return bytes.subarray(2, found.end);
}
