// A connection whose descriptor the native engine reads: no object of Node's, and no read-ahead but the first read of what was accepted.
import type { Socket } from 'node:net';
import type { Endpoint } from '../endpoint.ts';
import type { ConnAddon, ConnEngine } from './addon.ts';
import { eagain, socketOver } from './descriptor.ts';
import { Outbox } from './outbox.ts';
import { Reading, type Reader } from './reading.ts';
import type { Conn, Read, Wish } from './types.ts';

/** The engine that a connection lives in. */
export interface Home {
  readonly addon: ConnAddon;
  readonly engine: ConnEngine;
  /** Where the bytes of a read are, from its start, until the next call of the addon. */
  readonly arena: Buffer;
  /** `id` has no more events. */
  forget(id: number): void;
}

/** Most bytes of one read. */
const readBytes = 16_384;
/** Reads in a row of what nobody wants, before others have their turn. */
const drainReads = 16;
const noBytes = Buffer.alloc(0);

export class NativeConn implements Conn {
  readonly local: Endpoint;
  readonly peer: Endpoint;
  readonly #home: Home;
  readonly #id: number;
  readonly #outbox: Outbox;
  #isGone = false;
  #isEnded = false;
  #isDraining = false;
  #held: Buffer = noBytes;
  #reader: Reader | undefined;
  /** Bytes that a peek has shown to its reader; -1 when it is no peek. */
  #peeked = -1;
  readonly #goneListeners = new Set<() => void>();
  readonly #finishedListeners = new Set<() => void>();

  constructor(home: Home, id: number, local: Endpoint, peer: Endpoint) {
    this.#home = home;
    this.#id = id;
    this.#outbox = new Outbox(home.addon, home.engine, id);
    this.local = local;
    this.peer = peer;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  get heldBytes(): number {
    return this.#held.length;
  }

  get canRelease(): boolean {
    return !this.#isGone && this.#outbox.isEmpty;
  }

  async read<T>(wish: Wish<T>): Promise<Read<T>> {
    const reading = new Reading(this, wish);
    const held = this.takeHeld();
    reading.feed(held);
    if (wish.isPeek === true) this.unread(held);
    if (!reading.isOver) await this.#readOn(reading, wish.isPeek === true);
    return await reading.done;
  }

  async #readOn<T>(reading: Reading<T>, isPeek: boolean): Promise<void> {
    this.#reader = reading;
    this.#peeked = isPeek ? 0 : -1;
    this.#pull();
    await reading.done;
    this.#reader = undefined;
    if (!this.#isGone) this.#home.addon.unread(this.#home.engine, this.#id);
  }

  /** Reads until the reader knows or the kernel has no more: then an event will tell. */
  #pull(): void {
    while (this.#reader?.isOver === false) {
      if (this.#isGone) this.#reader.end('gone');
      else if (!this.#take(this.#recv())) return;
    }
  }

  #recv(): number {
    const { addon, engine } = this.#home;
    const isPeek = this.#peeked >= 0;
    return addon.read(engine, this.#id, readBytes, isPeek, isPeek ? this.#peeked : 0);
  }

  /** False when there is nothing to be had now. */
  #take(count: number): boolean {
    if (count === -eagain) return false;
    if (count > 0) this.#feed(this.#home.arena.subarray(0, count));
    else if (count === 0) this.#reader?.end('gone');
    else this.reset();
    return true;
  }

  /** `bytes` are good for now only: they are copied. A peek begins anew with the first byte each time; one without news has met the FIN. */
  #feed(bytes: Uint8Array): void {
    if (bytes.length <= this.#peeked) this.#reader?.end('gone');
    const fresh = Buffer.from(this.#peeked > 0 ? bytes.subarray(this.#peeked) : bytes);
    if (this.#peeked >= 0) this.#peeked = bytes.length;
    this.#reader?.feed(fresh);
  }

  // ---- what the network tells ----

  /** Bytes that came; nobody may have asked for the first ones. */
  arrived(bytes: Uint8Array): void {
    if (bytes.length === 0) this.#finished();
    else if (this.#isDraining) this.#drain();
    else if (this.#reader?.isOver === false) this.#readMore(bytes);
    // The wish was over when its answer was under way already. A peek has taken nothing.
    else if (this.#peeked < 0) this.unread(Buffer.from(bytes));
  }

  #readMore(bytes: Uint8Array): void {
    this.#feed(bytes);
    this.#pull();
  }

  /** The peer has sent its FIN, with `unreadBytes` before it. */
  hungUp(unreadBytes: number): void {
    if (unreadBytes === 0 && this.#held.length === 0) for (const tell of this.#finishedListeners) tell();
    if (this.#isDraining) this.#drain();
  }

  #finished(): void {
    this.#reader?.end('gone');
    this.hungUp(0);
  }

  /** The kernel takes bytes again. */
  writable(): void {
    if (!this.#outbox.flush()) this.reset();
    else if (this.#isEnded) this.#finish();
  }

  // ---- what its holder calls ----

  unread(bytes: Buffer): void {
    this.#held = this.#held.length === 0 ? bytes : Buffer.concat([bytes, this.#held]);
  }

  takeHeld(): Buffer {
    const held = this.#held;
    this.#held = noBytes;
    return held;
  }

  write(bytes: Buffer | string): void {
    if (this.#isGone || bytes.length === 0) return;
    const isAlive = this.#outbox.write(typeof bytes === 'string' ? Buffer.from(bytes) : bytes);
    if (!isAlive) this.reset();
  }

  end(bytes: Buffer | string): void {
    if (this.#isEnded) return;
    this.write(bytes);
    this.#isEnded = true;
    this.#finish();
  }

  #finish(): void {
    if (this.canRelease) this.#home.addon.finish(this.#home.engine, this.#id);
  }

  async linger(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#isGone) return;
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    const cut = (): void => this.close();
    const timer = setTimeout(cut, ms);
    signal.addEventListener('abort', cut);
    this.onGone(resolve);
    this.#isDraining = true;
    this.#drain();
    await closed;
    clearTimeout(timer);
    signal.removeEventListener('abort', cut);
  }

  #drain(): void {
    for (let left = drainReads; left > 0 && !this.#isGone; left -= 1) {
      const count = this.#recv();
      if (count === -eagain) return;
      if (count <= 0) this.close();
    }
    if (!this.#isGone) setImmediate(() => this.#drain());
  }

  reset(): void {
    this.#close(true);
  }

  close(): void {
    this.#close(false);
  }

  #close(isReset: boolean): void {
    if (this.#isGone) return;
    this.#home.addon.close(this.#home.engine, this.#id, isReset);
    this.#leave();
    this.#reader?.end('gone');
    for (const tell of this.#goneListeners) queueMicrotask(tell);
  }

  #leave(): void {
    this.#isGone = true;
    this.#home.forget(this.#id);
  }

  onGone(listener: () => void): () => void {
    if (this.#isGone) queueMicrotask(listener);
    else this.#goneListeners.add(listener);
    return () => void this.#goneListeners.delete(listener);
  }

  onFinished(listener: () => void): () => void {
    this.#finishedListeners.add(listener);
    return () => void this.#finishedListeners.delete(listener);
  }

  release(): number {
    if (!this.canRelease) return -1;
    this.#leave();
    return this.#home.addon.release(this.#home.engine, this.#id);
  }

  toSocket(): Socket {
    const unsent = this.#outbox.take();
    const wasEnded = this.#isEnded;
    const socket = socketOver(this.release());
    if (unsent.length > 0) socket.write(unsent);
    if (wasEnded) socket.end();
    return socket;
  }
}
