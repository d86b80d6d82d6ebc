// Questions and answers over the IPC of Node, with a time limit on each. Knows no question.
import type { Notes, Question, Questions } from './messages.ts';

/** One message; `advanced` serialization keeps its values as they are. */
type Message =
  | { readonly kind: 'ask'; readonly id: number; readonly what: Question; readonly value: unknown }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly error: unknown }
  | { readonly kind: 'note'; readonly what: keyof Notes; readonly value: unknown };

/** A ChildProcess, or the process itself. */
export interface Wire {
  send?(message: Message, callback: (error: Error | null) => void): boolean;
  on(event: 'message', listener: (message: unknown) => void): unknown;
}

export type Answers = {
  readonly [What in Question]: (value: Questions[What]['ask']) => Answer<What> | Promise<Answer<What>>;
};

type Answer<What extends Question> = Questions[What]['answer'];

interface Waiting {
  settle(value: unknown): void;
  fail(error: unknown): void;
}

/** The parent's end. */
export class AskingEnd {
  readonly #wire: Wire;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;

  constructor(wire: Wire, onNote: <What extends keyof Notes>(what: What, value: Notes[What]) => void) {
    this.#wire = wire;
    wire.on('message', (message) => {
      if (!isMessage(message) || message.kind === 'ask') return;
      if (message.kind === 'note') onNote(message.what, message.value as Notes[typeof message.what]);
      else this.#take(message);
    });
  }

  /** Rejects when there is no answer within `ms`, when the other end failed, or when it is gone. */
  async ask<What extends Question>(
    what: What,
    value: Questions[What]['ask'],
    ms: number,
  ): Promise<Answer<What>> {
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { settle: resolve, fail: reject });
    const timer = setTimeout(() => reject(new Error(`no answer to ${what} within ${ms} ms`)), ms);
    send(this.#wire, { kind: 'ask', id, what, value }, reject);
    try {
      // INVARIANT: whoever answers `what` is typed by Answers.
      return (await promise) as Answer<What>;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  /** The other end is gone. */
  close(): void {
    for (const { fail } of this.#waiting.values()) fail(new Error('the worker has ended'));
  }

  #take(message: Message & { readonly kind: 'answer' | 'failed' }): void {
    const waiting = this.#waiting.get(message.id);
    if (message.kind === 'answer') waiting?.settle(message.value);
    else waiting?.fail(message.error);
  }
}

/** The worker's end: answers in the order of the questions' ends, not of the questions. Returns how to say something unasked. */
export function answerOn(
  wire: Wire,
  answers: Answers,
): <What extends keyof Notes>(what: What, value: Notes[What]) => void {
  wire.on('message', (message) => {
    if (!isMessage(message) || message.kind !== 'ask') return;
    const { id, what, value } = message;
    // INVARIANT: whoever asks `what` is typed by Questions.
    const answer = answers[what] as (value: unknown) => unknown;
    void settled(async () => await answer(value)).then((end) => send(wire, { id, ...end }));
  });
  return (what, value) => send(wire, { kind: 'note', what, value });
}

async function settled(work: () => Promise<unknown>) {
  try {
    return { kind: 'answer', value: await work() } as const;
  } catch (error) {
    return { kind: 'failed', error } as const;
  }
}

/** Whoever does not hear us is told by `onError`; without it, it is gone and needs no answer. */
function send(wire: Wire, message: Message, onError: (error: Error) => void = () => {}): void {
  try {
    wire.send?.(message, (error) => {
      if (error !== null && error !== undefined) onError(error);
    });
  } catch (error) {
    onError(error instanceof Error ? error : new Error(String(error)));
  }
}

const kinds: readonly unknown[] = ['ask', 'answer', 'failed', 'note'];

function isMessage(message: unknown): message is Message {
  return typeof message === 'object' && message !== null && 'kind' in message && kinds.includes(message.kind);
}
