// The data plane that this run of the suite is about, and its connections with a plain socket at the far end.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Test } from 'tap';
import { readTold } from '../../proxy/config-sources.ts';
import type { Conn, Network } from '../../proxy/conn/index.ts';
import { chooseDataPlane, type DataPlane } from '../../proxy/data-plane.ts';

/** The suite runs once with each; SALLYPORT_RELAY says which. Closed with the process. */
export function dataPlaneUnderTest(): DataPlane {
  const { relay } = readTold({ flags: new Map(), env: process.env, file: null }).told;
  return chooseDataPlane(relay);
}

export interface ConnListening {
  readonly port: number;
  /** The next connection. */
  accept(): Promise<Conn>;
  close(): void;
}

/** A free port on loopback, listened to by `network`. */
export async function listenWith(network: Network): Promise<ConnListening> {
  const waiting: Conn[] = [];
  const wanted: ((conn: Conn) => void)[] = [];
  const accepted = (conn: Conn): void => {
    const taker = wanted.shift();
    if (taker === undefined) waiting.push(conn);
    else taker(conn);
  };
  const failed = (error: Error): void => {
    throw error;
  };
  const listener = await network.listen({ address: '127.0.0.1', port: 0 }, { accepted, failed });
  return {
    port: listener.port,
    accept: async () => waiting.shift() ?? (await new Promise<Conn>((resolve) => wanted.push(resolve))),
    close: () => listener.close(),
  };
}

/** Both ends of one connection: `near` belongs to the code under test, `far`, paused and half-open, to the test. */
export interface ConnPair {
  readonly near: Conn;
  readonly far: Socket;
}

/** Opens one real connection; both ends are closed when `t` ends. */
export async function connPair(t: Test, network: Network): Promise<ConnPair> {
  const listening = await listenWith(network);
  const ends = await dialWith(listening);
  listening.close();
  t.teardown(() => {
    ends.near.close();
    ends.far.destroy();
  });
  return ends;
}

/** One more connection to `listening`. */
export async function dialWith(listening: ConnListening): Promise<ConnPair> {
  const far = connect({ port: listening.port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  far.on('error', () => {}).pause();
  const [near] = await Promise.all([listening.accept(), once(far, 'connect')]);
  return { near, far };
}

/** Settles when `conn` is gone. */
export async function goneFrom(conn: Conn): Promise<void> {
  await new Promise<void>((resolve) => void conn.onGone(resolve));
}

/** Everything `conn` says until its FIN or its end. */
export async function readConn(conn: Conn): Promise<Buffer> {
  return (await conn.read({ look: () => undefined, timeoutMs: 30_000 })).bytes;
}

/** Bytes of `conn` that JavaScript holds, read or to be written. */
export function bytesHeldBy(conn: Conn): number {
  // A native one that may give its descriptor away has no more than that; asking it for a socket would take it away.
  if (conn.isGone || conn.canRelease) return conn.heldBytes;
  const { readableLength, writableLength } = conn.toSocket();
  return conn.heldBytes + readableLength + writableLength;
}
