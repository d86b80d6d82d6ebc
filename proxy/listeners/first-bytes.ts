// Reads what a client of the proxy port begins with, in one wait: the first byte says which protocol, and that protocol's reader goes on.
import type { Conn } from '../conn/index.ts';
import type { HeadLimits, ReadHead } from './read-head.ts';
import { createHeadReader } from './request-head.ts';
import { parseGreeting, socksVersion } from './socks5-frames.ts';
import { createFrameReader, type Greeting } from './socks5-read.ts';

/** Whatever is not SOCKS is HTTP, so that it is told no in HTTP; so is a client that says nothing. */
export type First =
  | { readonly protocol: 'http'; readonly read: ReadHead }
  | { readonly protocol: 'socks5'; readonly greeting: Greeting };

/** Never rejects. What came behind the head or the greeting is given back to the connection. */
export async function readFirst(client: Conn, { maxBytes, ...wait }: HeadLimits): Promise<First> {
  const reader = createFirstReader(maxBytes);
  const { found, bytes } = await client.read({ ...wait, look: reader });
  if (typeof found === 'string') {
    return bytes[0] === socksVersion
      ? { protocol: 'socks5', greeting: { kind: found } }
      : { protocol: 'http', read: { kind: found } };
  }
  client.unread(behind(found, bytes));
  return found;
}

function createFirstReader(maxBytes: number): (piece: Buffer) => First | undefined {
  const head = createHeadReader(maxBytes);
  const frame = createFrameReader(parseGreeting);
  let isSocks: boolean | undefined;
  return (piece) => {
    isSocks ??= piece[0] === socksVersion;
    if (isSocks) {
      const greeting = frame(piece);
      return greeting && { protocol: 'socks5', greeting };
    }
    const read = head.push(piece);
    return read.kind === 'need_more' ? undefined : { protocol: 'http', read };
  };
}

function behind(first: First, bytes: Buffer): Buffer {
  if (first.protocol === 'http') return first.read.kind === 'complete' ? first.read.rest : noBytes;
  return first.greeting.kind === 'complete' ? bytes.subarray(first.greeting.length) : noBytes;
}

const noBytes = Buffer.alloc(0);
