// The contract of a connection until the relay has it: bounded reads, small writes, and how it ends. Two kinds keep it: Node's sockets, and
// descriptors that the native engine reads. No code.
import type { Socket } from 'node:net';
import type { Address } from '../../policy/index.ts';
import type { Endpoint } from '../endpoint.ts';

/** What a reader wants to know from the next bytes. */
export interface Wish<T> {
  /** Is given each piece once, in order; undefined means that it needs more. */
  readonly look: (piece: Buffer) => T | undefined;
  /** For the whole wait, in ms: bytes that trickle in do not prolong it. */
  readonly timeoutMs: number;
  /** Ends the wait as `stopped`. */
  readonly signal?: AbortSignal;
  /** Another connection: when it is gone nothing more can come of waiting. */
  readonly other?: Conn;
  /** Leaves the bytes where they are, for the next reader. */
  readonly isPeek?: boolean;
}

/** `gone`: its FIN or its end was met first. */
export type Unmet = 'gone' | 'timeout' | 'stopped';

export interface Read<T> {
  readonly found: T | Unmet;
  /** All that was read, in order, whatever was found. */
  readonly bytes: Buffer;
}

/** One connected TCP socket that does not read ahead of its wishes by more than a few KiB. Errors end it and nothing else. */
export interface Conn {
  /** From the kernel. Empty text when it was reset before anybody could look. */
  readonly local: Endpoint;
  readonly peer: Endpoint;
  /** Closed, reset, or given away: nothing can be read or written any more. */
  readonly isGone: boolean;
  /** end() was called. */
  readonly isEnded: boolean;
  /** One at a time. Never rejects. */
  read<T>(wish: Wish<T>): Promise<Read<T>>;
  /** Gives bytes back that belong to the next reader; they come before everything that is still to be read. */
  unread(bytes: Buffer): void;
  /** What was read and belongs to nobody yet. */
  takeHeld(): Buffer;
  readonly heldBytes: number;
  /** Small writes only: what the kernel does not take at once waits in memory. */
  write(bytes: Buffer | string): void;
  /** Last words, then FIN. */
  end(bytes: Buffer | string): void;
  /** Reads and drops what still comes, until the peer closes, `ms` have passed or `signal` is aborted; then it is closed. */
  linger(ms: number, signal: AbortSignal): Promise<void>;
  /** Closes with a RST, in any state; safe to call twice. */
  reset(): void;
  /** Closes plainly; safe to call twice. */
  close(): void;
  /** Calls `listener` once it is gone, soon if it is already. Returns how to stop listening. */
  onGone(listener: () => void): () => void;
  /** Calls `listener` when the peer has finished with no byte left to read. Returns how to stop listening. */
  onFinished(listener: () => void): () => void;
  /** As a socket of Node's, for whoever needs a stream. What is held is not in it. The connection is the socket's from then on. */
  toSocket(): Socket;
  /** Whether its descriptor is ours to give, and all that was written is with the kernel. */
  readonly canRelease: boolean;
  /** Gives the descriptor away, which is never closed here then; it has no more events. Only while `canRelease`, else -1. */
  release(): number;
}

/** A port that is open. */
export interface OpenListener extends Endpoint {
  /** Stops accepting; connections that are there stay. */
  close(): void;
}

export interface Accepting {
  /** Must not throw. */
  accepted(conn: Conn): void;
  /** An accept that failed (EMFILE): one client lost, the listener stays. */
  failed(error: Error): void;
}

export interface Connecting {
  connected(conn: Conn): void;
  /** `code` is the system's: ECONNREFUSED and its like. */
  failed(code: string): void;
}

/** Where to listen. */
export interface ListenAt extends Endpoint {
  /** A descriptor that listens there already, the network's from then on. */
  readonly fd?: number;
}

/** Where connections come from. */
export interface Network {
  readonly name: 'native' | 'node';
  /** @throws Error with the system's code when the address cannot be had */
  listen(at: ListenAt, on: Accepting): Promise<OpenListener>;
  /** One attempt; exactly one of `on` is called, later, unless the attempt was given up with the function returned. */
  connect(address: Address, port: number, on: Connecting): () => void;
  /** Gives back what is held besides connections. */
  close(): void;
}
