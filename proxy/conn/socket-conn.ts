// A connection that is a socket of Node's. Keeps it paused between wishes, so that Node reads ahead no further than its high-water mark.
import type { Socket } from 'node:net';
import { endsOf, type Endpoint } from '../endpoint.ts';
import { hearErrors, resetSocket } from '../sockets.ts';
import { Reading } from './reading.ts';
import type { Conn, Read, Wish } from './types.ts';

const noBytes = Buffer.alloc(0);

export class SocketConn implements Conn {
  /** Node keeps its descriptors to itself. */
  readonly canRelease = false;
  readonly local: Endpoint;
  readonly peer: Endpoint;
  readonly #socket: Socket;
  #held: Buffer = noBytes;

  constructor(socket: Socket) {
    hearErrors(socket);
    this.#socket = socket;
    const { local, peer } = endsOf(socket);
    this.local = local;
    this.peer = peer;
  }

  get isGone(): boolean {
    return this.#socket.destroyed;
  }

  get isEnded(): boolean {
    return this.#socket.writableEnded;
  }

  async read<T>(wish: Wish<T>): Promise<Read<T>> {
    const reading = new Reading(this, wish);
    reading.feed(this.takeHeld());
    if (!reading.isOver && (this.isGone || this.#socket.readableEnded)) reading.end('gone');
    if (!reading.isOver) await this.#flow(reading);
    if (wish.isPeek === true) this.unread(reading.bytes);
    return await reading.done;
  }

  async #flow<T>(reading: Reading<T>): Promise<void> {
    const onData = (piece: Buffer): void => {
      reading.feed(piece);
      // At once: a socket without a listener for its data would flow on and lose bytes.
      if (reading.isOver) stop();
    };
    const onGone = (): void => reading.end('gone');
    const stop = (): void => {
      this.#socket.pause();
      this.#socket.off('data', onData).off('end', onGone).off('close', onGone);
    };
    this.#socket.on('data', onData).on('end', onGone).on('close', onGone).resume();
    await reading.done;
    stop();
  }

  unread(bytes: Buffer): void {
    this.#held = this.#held.length === 0 ? bytes : Buffer.concat([bytes, this.#held]);
  }

  takeHeld(): Buffer {
    const held = this.#held;
    this.#held = noBytes;
    return held;
  }

  get heldBytes(): number {
    return this.#held.length;
  }

  write(bytes: Buffer | string): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  get isCongested(): boolean {
    return this.#socket.writableNeedDrain;
  }

  onRoom(listener: () => void): void {
    this.#socket.once('drain', listener);
  }

  end(bytes: Buffer | string): void {
    if (this.#socket.writable) this.#socket.end(bytes);
  }

  async linger(ms: number, signal: AbortSignal): Promise<void> {
    if (this.isGone) return;
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    const cut = (): void => this.close();
    const timer = setTimeout(cut, ms);
    signal.addEventListener('abort', cut);
    this.#socket.once('close', resolve);
    // What it still sends is nobody's; unread it would turn our FIN into a reset that eats the answer.
    this.#socket.resume();
    await closed;
    clearTimeout(timer);
  }

  reset(): void {
    resetSocket(this.#socket);
  }

  close(): void {
    this.#socket.destroy();
  }

  onGone(listener: () => void): () => void {
    if (this.#socket.closed) queueMicrotask(listener);
    else this.#socket.once('close', listener);
    return () => void this.#socket.off('close', listener);
  }

  onFinished(listener: () => void): () => void {
    const onEnd = (): void => {
      if (this.#held.length === 0) listener();
    };
    this.#socket.once('end', onEnd);
    return () => void this.#socket.off('end', onEnd);
  }

  toSocket(): Socket {
    return this.#socket;
  }

  release(): number {
    return -1;
  }
}
