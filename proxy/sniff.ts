// Reads the first bytes of a client and says what they are, within a byte and a time limit. Sends nothing anywhere and loses
// nothing: what was read is handed back, the rest stays in the connection.
import type { ServerNameFact } from '../policy/index.ts';
import { createHelloReader, type HelloResult } from './client-hello.ts';
import type { Conn } from './conn/index.ts';

/** What the client's first bytes say, and those bytes: all that was read, to be forwarded first. */
export interface Sniffed {
  readonly fact: ServerNameFact;
  readonly bytes: Buffer;
}

export interface SniffOptions {
  /** Longest hello, record headers included. */
  readonly maxBytes: number;
  /** For the whole hello, so that a client cannot stretch it byte by byte. */
  readonly timeoutMs: number;
  /** Ends the wait with the fact `closed`. */
  readonly signal?: AbortSignal;
}

/**
 * The server name fact of `client`. Never rejects: a client that leaves or resets is the fact `closed`, one that stays silent
 * is `timeout`.
 */
export async function sniffHello(client: Conn, { maxBytes, ...wait }: SniffOptions): Promise<Sniffed> {
  const reader = createHelloReader(maxBytes);
  const { found, bytes } = await client.read({ ...wait, look: (piece) => factOf(reader.push(piece)) });
  if (found === 'timeout') return { fact: { kind: 'timeout' }, bytes };
  return { fact: typeof found === 'string' ? { kind: 'closed' } : found, bytes };
}

/** What a hello says to the third gate; undefined while it is not whole. */
export function factOf(result: HelloResult): ServerNameFact | undefined {
  switch (result.kind) {
    case 'need_more':
      return undefined;
    case 'not_tls':
      return { kind: 'not_tls' };
    case 'malformed':
      return { kind: 'malformed', problem: result.problem };
    case 'complete':
      return namedFact(result.serverName, result.ech);
    default:
      return result satisfies never;
  }
}

function namedFact(name: string | null, ech: boolean): ServerNameFact {
  return name === null ? { kind: 'no_server_name', ech } : { kind: 'server_name', name, ech };
}
