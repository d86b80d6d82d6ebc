// Small writes to a descriptor of the native engine: in order, what the kernel does not take at once waits here. Knows nothing of reading.
import type { ConnAddon, ConnEngine } from './addon.ts';

const noBytes = Buffer.alloc(0);

export class Outbox {
  readonly #addon: ConnAddon;
  readonly #engine: ConnEngine;
  readonly #id: number;
  #unsent: Buffer = noBytes;
  #roomListener: (() => void) | undefined;

  constructor(addon: ConnAddon, engine: ConnEngine, id: number) {
    this.#addon = addon;
    this.#engine = engine;
    this.#id = id;
  }

  get isEmpty(): boolean {
    return this.#unsent.length === 0;
  }

  /** False when the connection is lost. */
  write(bytes: Buffer): boolean {
    if (!this.isEmpty) {
      this.#unsent = Buffer.concat([this.#unsent, bytes]);
      return true;
    }
    const sent = this.#addon.write(this.#engine, this.#id, bytes);
    if (sent >= 0 && sent < bytes.length) this.#keep(bytes.subarray(sent));
    return sent >= 0;
  }

  /** Goes on where the kernel had no room. False when the connection is lost. */
  flush(): boolean {
    const isAlive = this.isEmpty || this.write(this.take());
    if (isAlive && this.isEmpty) this.#tellRoom();
    return isAlive;
  }

  /** Calls `listener` once, when nothing waits any more. */
  onRoom(listener: () => void): void {
    this.#roomListener = listener;
  }

  #tellRoom(): void {
    const tell = this.#roomListener;
    this.#roomListener = undefined;
    tell?.();
  }

  take(): Buffer {
    const unsent = this.#unsent;
    this.#unsent = noBytes;
    return unsent;
  }

  #keep(rest: Buffer): void {
    this.#unsent = Buffer.from(rest);
    this.#addon.wantWrite(this.#engine, this.#id);
  }
}
