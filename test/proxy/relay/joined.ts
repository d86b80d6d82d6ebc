// One tunnel under test: a relay between two real connections, and ways to fill, drain and close it.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Test } from 'tap';
import type { Conn } from '../../../proxy/conn/index.ts';
import type { DataPlane } from '../../../proxy/data-plane.ts';
import type { Relay, RelayHandle, RelayRequest } from '../../../proxy/relay/index.ts';
import { connPair } from '../../helpers/conn.ts';

/** A tunnel as its two users see it: `client` and `upstream` are the far ends, `near` the ends the relay owns. */
export interface Joined {
  readonly client: Socket;
  readonly upstream: Socket;
  readonly near: { readonly client: Conn; readonly upstream: Conn };
  readonly handle: RelayHandle;
}

/** Relay options that a test sets, and what the client's connection holds. */
export type Options = Partial<Omit<RelayRequest, 'client' | 'upstream'>> & { readonly held?: Buffer };

/** A relay opened between two fresh connections. */
export async function join(t: Test, { relay, network }: DataPlane, options: Options = {}): Promise<Joined> {
  const [left, right] = [await connPair(t, network), await connPair(t, network)];
  const near = { client: left.near, upstream: right.near };
  return { client: left.far, upstream: right.far, near, handle: openOver(relay, near, options) };
}

/** Opens `relay` over near ends, with generous limits unless told otherwise. */
export function openOver(relay: Relay, near: Joined['near'], { held, ...options }: Options): RelayHandle {
  if (held !== undefined) near.client.unread(held);
  const defaults = { idleTimeoutMs: 60_000, maxUpBytes: null, maxDownBytes: null };
  return relay.open({ ...near, ...defaults, ...options });
}

/** Whether `socket` drains within many turns of the event loop. */
export async function drains(socket: Socket): Promise<boolean> {
  for (let turn = 0; turn < 2000 && socket.writableNeedDrain; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  return !socket.writableNeedDrain;
}

/** Sends `size` seeded bytes with back-pressure, then FIN; the digest of what was sent. */
export async function pour(socket: Socket, size: number, seed: number): Promise<string> {
  const hash = createHash('sha1');
  const chunk = Buffer.from(Uint8Array.from({ length: 65_536 + seed }, (_, i) => (i * 31 + seed * 7) % 251));
  for (let left = size; left > 0; left -= chunk.length) {
    const part = chunk.subarray(0, Math.min(left, chunk.length));
    hash.update(part);
    if (!socket.write(part)) await once(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
}

/** The digest of everything `socket` says until its FIN. */
export async function digestOf(socket: Socket): Promise<string> {
  const hash = createHash('sha1');
  socket.on('data', (chunk: Buffer) => hash.update(chunk));
  await once(socket.resume(), 'end');
  return hash.digest('hex');
}

/** Closes what the test holds, so that descriptors can be counted. */
export async function closeFarEnds({ client, upstream }: Joined): Promise<void> {
  for (const socket of [client, upstream]) {
    if (socket.closed) continue;
    socket.destroy();
    await once(socket, 'close');
  }
}
