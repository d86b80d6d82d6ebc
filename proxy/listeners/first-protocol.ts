// Whether a client that thinks it has reached the origin begins with plain HTTP. Looks at a few bytes and takes none; decides nothing.
import type { Conn } from '../conn/index.ts';

/** A method and a space (RFC 9112 §3). `SSH-2.0-...` is no method of anybody's, and neither is a record of TLS. */
const method = /^[A-Z][A-Z-]{0,30} /u;
const beginning = /^[A-Z][A-Z-]{0,30}$/u;
const longest = 32;

/** `other` is TLS, or what will be refused for not being it; so is a client that says nothing in time. */
export async function firstProtocol(
  client: Conn,
  wait: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<'http' | 'other'> {
  let text = '';
  const { found } = await client.read({
    ...wait,
    isPeek: true,
    look(piece) {
      text += piece.toString('latin1', 0, longest - text.length);
      if (method.test(text)) return { protocol: 'http' } as const;
      return beginning.test(text) ? undefined : ({ protocol: 'other' } as const);
    },
  });
  return typeof found === 'string' ? 'other' : found.protocol;
}
