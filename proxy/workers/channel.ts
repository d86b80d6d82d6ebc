// Questions and answers over the IPC of Node, with a time limit on each. Knows no question.
import type { Notes, Question, Questions } from './messages.ts';

interface Ask<What extends Question> {
  readonly kind: 'ask';
  readonly id: number;
  readonly what: What;
  readonly value: Questions[What]['ask'];
}

interface Answer<What extends Question> {
  readonly kind: 'answer';
  readonly id: number;
  readonly what: What;
  readonly value: Questions[What]['answer'];
}

interface Failure {
  readonly kind: 'failed';
  readonly id: number;
  readonly what: Question;
  readonly error: unknown;
}

interface Note<What extends keyof Notes> {
  readonly kind: 'note';
  readonly what: What;
  readonly value: Notes[What];
}

/** `advanced` serialization keeps values, and errors, as they are. */
type Message = Ask<Question> | Answer<Question> | Failure | Note<keyof Notes>;

/** A ChildProcess, or the process itself. */
interface Wire {
  send?(message: Message, callback: (error: Error | null) => void): boolean;
  on(event: 'message', listener: (message: unknown) => void): unknown;
}

type Answers = {
  readonly [What in Question]: (
    value: Questions[What]['ask'],
  ) => Questions[What]['answer'] | Promise<Questions[What]['answer']>;
};

type Listeners = { readonly [What in keyof Notes]: (value: Notes[What]) => void };

/** Says something unasked; `onSent` hears when it is out. */
export type Tell = <What extends keyof Notes>(
  what: What,
  value: Notes[What],
  onSent?: (error: Error | null) => void,
) => void;

interface Waiting<Value> {
  readonly settle: (value: Value) => void;
  readonly fail: (error: unknown) => void;
}

type Waitings = { readonly [What in Question]: Map<number, Waiting<Questions[What]['answer']>> };

/** The parent's end. */
export class AskingEnd {
  readonly #wire: Wire;
  readonly #waiting: Waitings = {
    piece: new Map(),
    start: new Map(),
    enforce: new Map(),
    snapshot: new Map(),
    cut: new Map(),
    tunnels: new Map(),
    probe: new Map(),
    reopen: new Map(),
    drain: new Map(),
  };
  #next = 0;

  constructor(wire: Wire, listeners: Listeners) {
    this.#wire = wire;
    wire.on('message', (message) => {
      if (!isMessage(message) || message.kind === 'ask') return;
      if (message.kind === 'note') hear(listeners, message);
      else if (message.kind === 'answer') this.#take(message);
      else this.#waiting[message.what].get(message.id)?.fail(message.error);
    });
  }

  /** Rejects when there is no answer within `ms`, when the other end failed, or when it is gone. */
  async ask<What extends Question>(
    what: What,
    value: Questions[What]['ask'],
    ms: number,
  ): Promise<Questions[What]['answer']> {
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<Questions[What]['answer']>();
    this.#waiting[what].set(id, { settle: resolve, fail: reject });
    const timer = setTimeout(() => reject(new Error(`no answer to \`${what}\` within ${ms} ms`)), ms);
    send(this.#wire, { kind: 'ask', id, what, value }, (error) => {
      if (error !== null) reject(error);
    });
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting[what].delete(id);
    }
  }

  /** The other end is gone. */
  close(): void {
    for (const all of Object.values(this.#waiting))
      for (const waiting of all.values()) waiting.fail(new Error('the worker has ended'));
  }

  #take<What extends Question>({ what, id, value }: Answer<What>): void {
    this.#waiting[what].get(id)?.settle(value);
  }
}

/** The worker's end. Answers each question when it can, not in their order. Returns how to say something unasked. */
export function answerOn(wire: Wire, answers: Answers): Tell {
  wire.on('message', (message) => {
    if (!isMessage(message) || message.kind !== 'ask') return;
    void answerTo(message, answers).then((end) => send(wire, end));
  });
  return (what, value, onSent) => send(wire, { kind: 'note', what, value }, onSent);
}

async function answerTo<What extends Question>(
  { what, id, value }: Ask<What>,
  answers: Answers,
): Promise<Answer<What> | Failure> {
  try {
    return { kind: 'answer', what, id, value: await answers[what](value) };
  } catch (error) {
    return { kind: 'failed', what, id, error };
  }
}

function hear<What extends keyof Notes>(listeners: Listeners, { what, value }: Note<What>): void {
  listeners[what](value);
}

/** `onSent` hears when the message is out, or why it is not. An end that is gone needs no answer. */
function send(wire: Wire, message: Message, onSent: (error: Error | null) => void = () => {}): void {
  try {
    wire.send?.(message, onSent);
  } catch (error) {
    onSent(error instanceof Error ? error : new Error(String(error)));
  }
}

const kinds: ReadonlySet<unknown> = new Set(['ask', 'answer', 'failed', 'note']);

/** Both ends are ours, and of one version. */
function isMessage(message: unknown): message is Message {
  return typeof message === 'object' && message !== null && 'kind' in message && kinds.has(message.kind);
}
