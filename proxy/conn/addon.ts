// What the native set-up engine offers to JavaScript. Carries nothing itself; binding.c is the other side.
import { loadAddon } from '../addon.ts';

/** One engine, opaque. */
export interface ConnEngine {
  readonly isConnEngine: never;
}

/** Numbers of an event: `[type, id, a, b, listener]`; `listener` is -1 but for `accept`. */
export const eventFields = 5;

/** What an event says, and what its fields `a` and `b` hold. Offsets are into the arena. */
export const eventTypes = {
  /**
   * A client is connection `id`. a, b: offset and length of "ip port ip port", its address and ours; length 0 when it has none.
   * What it has said already is the event right behind this one, `data` or `failed`: read() before that would take later bytes first.
   */
  accept: 1,
  /** The answer to a wish, or what a new client has said already. a, b: offset and length; length 0 is FIN. */
  data: 2,
  /** The answer to a wish, or in place of a new client's first bytes: the connection is lost. a: errno. */
  failed: 3,
  /** The peer sent FIN, told once, while nobody wished to read. a: bytes unread before it when the batch was made. */
  hup: 4,
  /** Nothing goes either way any more, told once, while nobody wished to read. a: errno, 0 when both ended cleanly. b: bytes unread. */
  gone: 5,
  /** The end of connect(). a: errno, 0 when it is open. */
  connected: 6,
  /** The answer to wantWrite(). */
  writable: 7,
  /** `id` is the listener: clients are turned away or wait. a: errno. Once per wake-up at most; it goes on by itself. */
  acceptFailed: 8,
} as const;

/**
 * Numbers in, numbers out: below zero is -errno (-EBADF for an id that is not in use, or after stop()); a TypeError is a bug. An id may be used
 * again once close(), release() or unlisten() gave it up, though never before `onEvents` has returned: an event of an id that
 * its handler does not know is to be ignored.
 */
export interface ConnAddon {
  /** A listening descriptor of no engine. -EINVAL when `address` is not an address. A v6 one hears v6 only. */
  bind(address: string, port: number, reusePort: boolean, backlog: number): number;
  portOf(fd: number): number;
  /**
   * `onEvents(count)` is called with what is in `events` and `arena` until it returns. `events` has room for two events at least, `arena` for
   * 512 bytes. The first quarter of the arena is for read(), so that reading leaves the bytes of a batch alone. Keeps no process alive: see hold().
   */
  create(
    onEvents: (count: number) => void,
    events: Int32Array<ArrayBuffer>,
    arena: Uint8Array<ArrayBuffer>,
  ): ConnEngine | number;
  /** Owns `fd` from here on, unless it fails. `headBytes` of each new client are read at once, if they are there; 0 for none. */
  listen(engine: ConnEngine, fd: number, headBytes: number): number;
  unlisten(engine: ConnEngine, listener: number): number;
  /** An id, whose `connected` comes later. */
  connect(engine: ConnEngine, address: string, port: number): number;
  /** An id for a connected TCP socket, which it owns from here on, unless it fails. */
  adopt(engine: ConnEngine, fd: number): number;
  /**
   * Bytes that are now at the start of the arena, 0 for FIN, -errno when the connection is lost. -EAGAIN: the wish is kept, in place of an earlier
   * one, and ONE `data` or `failed` answers it. At most a quarter of the arena. With `isPeek` the bytes stay unread, and there is no
   * answer before there are more than `beyond`: one of `beyond` bytes or fewer means FIN stands behind them. -EINVAL: `beyond`
   * leaves no room for more, or `maxBytes` is 0.
   */
  read(engine: ConnEngine, id: number, maxBytes: number, isPeek: boolean, beyond: number): number;
  /** 1 when a wish was taken back; 0 when there was none, or its answer is in the present batch already, and took its bytes. */
  unread(engine: ConnEngine, id: number): number;
  /** Bytes taken, perhaps fewer than given or none: then wantWrite(). */
  write(engine: ConnEngine, id: number, bytes: Uint8Array): number;
  /** ONE `writable`, in the next batch when it is so already. */
  wantWrite(engine: ConnEngine, id: number): number;
  /** Sends FIN. */
  finish(engine: ConnEngine, id: number): number;
  close(engine: ConnEngine, id: number, isReset: boolean): number;
  /** The descriptor, which is the caller's from here on. */
  release(engine: ConnEngine, id: number): number;
  /** Whether the engine keeps the process alive. */
  hold(engine: ConnEngine, isHeld: boolean): void;
  /** Closes everything. */
  stop(engine: ConnEngine): void;
}

const names = [
  ...(['bind', 'portOf', 'create', 'listen', 'unlisten', 'connect', 'adopt', 'read', 'unread'] as const),
  ...(['write', 'wantWrite', 'finish', 'close', 'release', 'hold', 'stop'] as const),
];

/** The addon, or why there is none. */
export function loadConnAddon(): ConnAddon | { readonly problem: string } {
  return loadAddon<ConnAddon>('conn', names);
}
