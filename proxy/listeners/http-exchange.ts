// One request and its answer over the socket that was granted for it: streamed both ways with back-pressure, counted against the budgets, cut like
// a tunnel. undici writes the request and reads the answer; it opens nothing, keeps nothing, follows nothing. Decides nothing.
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Reason } from '../../policy/index.ts';
import { SocketConn, type Conn } from '../conn/index.ts';
import { noAnswer, RequestFault } from '../errors.ts';
import type { RelayCause, RelayEnd, RelayHandle } from '../relay/index.ts';
import { hearErrors } from '../sockets.ts';
import type { Exchange, ExchangeRequest } from '../types.ts';
import { agentOver, breakOff } from './http-agent.ts';
import {
  answerFraming,
  answerHead,
  endsWithConnection,
  fieldsOf,
  framed,
  lastPiece,
  type AnswerFraming,
} from './http-answer.ts';
import { BodyCut, readBody } from './http-body.ts';
import { headBytes, type HttpRequest } from './http-target.ts';

/** Where the exchange stands, for whoever refuses or goes on after it. */
export interface ExchangeState {
  /** The head of the answer has gone to the client. */
  isAnswered: boolean;
  /** Both messages are whole, and the client may ask again. */
  isReusable: boolean;
}

/** Begins at once. The connection of the client stays open when `state` says that it is reusable; else it is ended or reset. */
export function startExchange(
  client: Conn,
  request: HttpRequest,
  state: ExchangeState,
  over: ExchangeRequest,
): Exchange {
  const exchange = new HttpExchange(client, request, state, over);
  void exchange.begin();
  return exchange;
}

class HttpExchange implements RelayHandle {
  readonly done: Promise<RelayEnd>;
  readonly #client: Conn;
  readonly #request: HttpRequest;
  readonly #state: ExchangeState;
  readonly #over: ExchangeRequest;
  readonly #socket: Socket;
  readonly #idle: NodeJS.Timeout;
  readonly #stop = new AbortController();
  readonly #settle: (end: RelayEnd | Promise<never>) => void;
  readonly #forgetClient: () => void;
  readonly #bytes: { up: number; down: number };
  #framing: AnswerFraming = 'none';
  #isBodyRead: boolean;
  #isOver = false;
  #destroyAgent: () => void = () => {};
  #tunnel: RelayHandle | undefined;

  constructor(client: Conn, request: HttpRequest, state: ExchangeState, over: ExchangeRequest) {
    const { promise, resolve } = Promise.withResolvers<RelayEnd>();
    this.done = promise;
    this.#settle = resolve;
    this.#client = client;
    this.#request = request;
    this.#state = state;
    this.#over = over;
    this.#bytes = { ...(over.sent ?? { up: 0, down: 0 }) };
    this.#isBodyRead = request.framing.kind === 'none';
    this.#socket = over.upstream.toSocket();
    this.#idle = setTimeout(() => this.#cut('idle'), over.idleTimeoutMs);
    this.#forgetClient = client.onGone(() => this.#cut('client_error'));
    hearErrors(this.#socket);
  }

  bytes(): { up: number; down: number } {
    return this.#tunnel?.bytes() ?? { ...this.#bytes };
  }

  sever(reason: Reason): void {
    if (this.#tunnel !== undefined) this.#tunnel.sever(reason);
    else this.#cut('severed', reason);
  }

  /** Sends the request. Never rejects: every end is told by `done`. */
  async begin(): Promise<void> {
    const { method, path, host, fields, framing, isUpgrade } = this.#request;
    const length = framing.kind === 'length' ? ['content-length', String(framing.bytes)] : [];
    try {
      const agent = await agentOver(host, this.#socket);
      if (this.#isOver || !this.#count('up', headBytes(this.#request))) return;
      this.#destroyAgent = () => void agent.destroy().catch(() => {});
      const headers = ['host', host, ...fields, ...length];
      const body = framing.kind === 'none' ? null : Readable.from(this.#body(framing), { objectMode: false });
      agent.dispatch(
        { method, path, headers, body, reset: !isUpgrade, upgrade: isUpgrade ? 'websocket' : null },
        this.#handler,
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  async *#body(framing: Exclude<HttpRequest['framing'], { kind: 'none' }>): AsyncGenerator<Buffer, void> {
    const { idleTimeoutMs: timeoutMs } = this.#over;
    if (this.#request.expectsContinue && this.#client.heldBytes === 0)
      this.#client.write('HTTP/1.1 100 Continue\r\n\r\n');
    for await (const piece of readBody(this.#client, { framing, timeoutMs, signal: this.#stop.signal })) {
      if (!this.#count('up', piece.length)) return;
      yield piece;
    }
    this.#isBodyRead = true;
  }

  readonly #handler: Dispatcher.DispatchHandler = {
    onRequestStart: () => {},
    onResponseStart: (controller, status, _headers, statusText = '') =>
      this.#answer(controller, status, statusText),
    onResponseData: (controller, piece) => {
      if (!this.#count('down', piece.length)) return;
      this.#client.write(framed(piece, this.#framing));
      this.#waitForRoom(controller);
    },
    onResponseEnd: () => this.#end(),
    onResponseError: (_controller, error) => this.#fail(error),
    onRequestUpgrade: (controller, status) => this.#upgrade(controller, status),
  };

  #answer(controller: Dispatcher.DispatchController, status: number, statusText: string): void {
    if (this.#isOver) return;
    const answer = { status, statusText, fields: fieldsOf(controller.rawHeaders) };
    if (status < 200 && status !== 101) {
      // An interim answer (103): HTTP/1.0 has none. undici does not wait for room within one: a client that does not read goes without.
      if (this.#request.minor === 1 && !this.#client.isCongested) this.#tell(answerHead(answer, 'none', []));
      return;
    }
    // A 101 that is an answer to a wish comes as an upgrade.
    const framing = status === 101 ? undefined : answerFraming(answer, this.#request);
    if (framing === undefined) {
      this.#fail(new Error('the answer has a coding other than chunked, or switches protocols unasked'));
      return;
    }
    this.#framing = framing;
    this.#state.isAnswered = true;
    this.#tell(answerHead(answer, framing, this.#mayGoOn ? [] : ['Connection: close']));
  }

  get #mayGoOn(): boolean {
    return this.#request.keepsAlive && this.#framing !== 'close';
  }

  #tell(head: Buffer): void {
    if (this.#count('down', head.length)) this.#client.write(head);
  }

  #waitForRoom(controller: Dispatcher.DispatchController): void {
    if (!this.#client.isCongested) return;
    controller.pause();
    this.#client.onRoom(() => {
      this.#idle.refresh();
      controller.resume();
    });
  }

  /** From here on it is a tunnel like any other. */
  #upgrade(controller: Dispatcher.DispatchController, status: number): void {
    const { relay, ...over } = this.#over;
    const answer = { status, statusText: 'Switching Protocols', fields: fieldsOf(controller.rawHeaders) };
    this.#state.isAnswered = true;
    this.#tell(answerHead(answer, 'none', ['Connection: upgrade', 'Upgrade: websocket']));
    if (this.#isOver) return;
    this.#leave();
    const upstream = new SocketConn(this.#socket);
    this.#tunnel = relay.open({ ...over, client: this.#client, upstream, sent: this.#bytes });
    void this.#tunnel.done.then(this.#settle);
  }

  #end(): void {
    if (this.#isOver) return;
    // undici takes a reset for the end of an answer that has no other.
    if (this.#socket.errored !== null && endsWithConnection(this.#framing)) {
      this.#cut('upstream_error');
      return;
    }
    const isReusable = this.#mayGoOn && this.#isBodyRead;
    const last = lastPiece(this.#framing);
    if (isReusable) this.#client.write(last);
    else this.#client.end(last);
    // Who asks on without reading would pile up answers: heads have no other bound.
    if (isReusable && this.#client.isCongested) this.#client.onRoom(() => this.#close(true));
    else this.#close(isReusable);
  }

  #close(isReusable: boolean): void {
    if (this.#isOver) return;
    this.#state.isReusable = isReusable;
    this.#finish({ cause: 'both_ended' });
  }

  /** Before the client was told anything it can still be told why; afterwards only a reset keeps it from taking a cut answer for a whole one. */
  #fail(error: unknown): void {
    if (this.#isOver) return;
    if (error instanceof BodyCut) this.#cut(error.why === 'timeout' ? 'idle' : 'client_error');
    else if (this.#state.isAnswered)
      this.#cut(error instanceof RequestFault ? 'client_error' : 'upstream_error');
    else this.#finish(error instanceof RequestFault ? error : noAnswer(error));
  }

  #cut(cause: RelayCause, severReason?: Reason): void {
    if (this.#isOver) return;
    this.#finish({ cause, ...(severReason === undefined ? {} : { severReason }) });
    this.#client.reset();
  }

  #finish(end: Error | Pick<RelayEnd, 'cause' | 'severReason'>): void {
    this.#leave();
    // Not within undici's own call.
    queueMicrotask(() => {
      if (end instanceof Error || end.cause !== 'both_ended') breakOff(this.#socket);
      this.#destroyAgent();
    });
    const { up: upBytes, down: downBytes } = this.#bytes;
    this.#settle(end instanceof Error ? Promise.reject(end) : { ...end, upBytes, downBytes });
  }

  #leave(): void {
    this.#isOver = true;
    clearTimeout(this.#idle);
    this.#forgetClient();
    this.#stop.abort();
  }

  /** False when the budget does not allow so many more: then it is over. */
  #count(way: 'up' | 'down', bytes: number): boolean {
    if (this.#isOver) return false;
    const budget = way === 'up' ? this.#over.maxUpBytes : this.#over.maxDownBytes;
    if (this.#bytes[way] + bytes > (budget ?? Infinity)) {
      this.#cut('limit_bytes');
      return false;
    }
    this.#bytes[way] += bytes;
    this.#idle.refresh();
    this.#over.onBytes?.(way === 'up' ? bytes : 0, way === 'down' ? bytes : 0);
    return true;
  }
}
