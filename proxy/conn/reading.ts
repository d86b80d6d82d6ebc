// One wait for bytes: looks at each piece once, and ends when it knows, when time is up, or when somebody else ends it. Reads nothing itself.
import type { Conn, Read, Unmet, Wish } from './types.ts';

const noBytes = Buffer.alloc(0);

/** A reading as whoever has the bytes sees it. */
export interface Reader {
  readonly isOver: boolean;
  feed(piece: Buffer): void;
  end(why: Unmet): void;
}

export class Reading<T> implements Reader {
  readonly done: Promise<Read<T>>;
  readonly #wish: Wish<T>;
  readonly #conn: Conn;
  readonly #pieces: Buffer[] = [];
  readonly #resolve: (read: Read<T>) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #forgetOther: (() => void) | undefined;
  #bytes: Buffer | undefined;

  constructor(conn: Conn, wish: Wish<T>) {
    const { promise, resolve } = Promise.withResolvers<Read<T>>();
    this.done = promise;
    this.#resolve = resolve;
    this.#wish = wish;
    this.#conn = conn;
    this.#timer = setTimeout(() => this.end('timeout'), wish.timeoutMs);
    this.#forgetOther = wish.other?.onGone(() => this.end('gone'));
    wish.signal?.addEventListener('abort', this.#onAbort);
    if (wish.signal?.aborted === true) this.#onAbort();
  }

  get isOver(): boolean {
    return this.#bytes !== undefined;
  }

  /** Everything it was given; empty while it goes on. */
  get bytes(): Buffer {
    return this.#bytes ?? noBytes;
  }

  feed(piece: Buffer): void {
    if (this.isOver || piece.length === 0) return;
    this.#pieces.push(piece);
    const found = this.#wish.look(piece);
    if (found !== undefined) this.#settle(found);
  }

  end(why: Unmet): void {
    if (!this.isOver) this.#settle(why);
  }

  readonly #onAbort = (): void => this.end(this.#conn.isGone ? 'gone' : 'stopped');

  #settle(found: T | Unmet): void {
    const [first = noBytes] = this.#pieces;
    this.#bytes = this.#pieces.length > 1 ? Buffer.concat(this.#pieces) : first;
    clearTimeout(this.#timer);
    this.#forgetOther?.();
    this.#wish.signal?.removeEventListener('abort', this.#onAbort);
    this.#resolve({ found, bytes: this.#bytes });
  }
}
