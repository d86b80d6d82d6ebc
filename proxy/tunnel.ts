// One client, from accept to audit line: what is known of it, how it is cut, and how it ended. Decides nothing, moves no byte.
import { randomUUID } from 'node:crypto';
import type {
  Address,
  Decision,
  EgressRequest,
  FailureCode,
  Grant,
  Mode,
  Policy,
  Principal,
  Reason,
  ServerNameFact,
  Verdict,
} from '../policy/index.ts';
import type { Conn } from './conn/index.ts';
import type { Stage } from './errors.ts';
import type { CloseCause } from './observe/index.ts';
import type { RelayHandle } from './relay/index.ts';

/** `head`: the request is not read yet. `ending`: it is over, and the client may still read why. */
export type TunnelState = 'head' | 'deciding' | 'resolving' | 'dialling' | 'sniffing' | 'open' | 'ending';

/** How a client ended. `reason` is null when nobody was to blame. */
export interface TunnelEnd {
  readonly cause: CloseCause;
  readonly reason: Reason | FailureCode | null;
}

/** What the listener knows of a client at once. */
export interface TunnelStart {
  readonly mode: Mode;
  readonly peer: string;
  readonly listener: string;
  readonly principal: Principal | undefined;
  /** ms since 1970. */
  readonly openedAt: number;
}

/** Of tunnels that are open: they are cut by their relay. */
const unstopped = new AbortController().signal;

/** Facts gather here as the tunnel goes on; each is written by one step of open() and never taken back. */
export class Tunnel {
  readonly id: string = randomUUID();
  readonly start: TunnelStart;
  /** Milliseconds each step took. */
  readonly ms: { resolve?: number; dial?: number; hello?: number } = {};
  state: TunnelState = 'head';
  stage: Stage = 'head';
  request: EgressRequest | undefined;
  /** The snapshot that judges this tunnel for its whole life. */
  policy: Policy | undefined;
  decision: Decision | undefined;
  /** The last verdict that is on record; null before one. */
  verdict: Verdict | null = null;
  grant: Grant | undefined;
  hello: ServerNameFact | undefined;
  address: Address | undefined;
  /** What crossed before the relay took over: the hello, and a server's wish for another. */
  sent: { readonly up: number; readonly down: number } = { up: 0, down: 0 };
  #client: Conn | undefined;
  #stop: AbortController | undefined = new AbortController();
  #carriedAt = 0;
  readonly #startedAt = performance.now();
  #stopped: TunnelEnd | undefined;
  #relay: RelayHandle | undefined;

  /** Gives its place among the tunnels back, once. */
  release: (() => void) | undefined;

  constructor(client: Conn, start: TunnelStart) {
    this.start = start;
    this.#client = client;
    client.onGone(() => this.stop({ cause: 'client_gone', reason: null }));
  }

  /** Until the relay has it. */
  get client(): Conn | undefined {
    return this.#client;
  }

  /** Aborted when the client is gone, or when the tunnel is severed before it is open. */
  get signal(): AbortSignal {
    return this.#stop?.signal ?? unstopped;
  }

  /** Why the signal was aborted. */
  get stopped(): TunnelEnd | undefined {
    return this.#stopped;
  }

  /** ms since accept. */
  get ageMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** Payload bytes carried so far. */
  get bytes(): { up: number; down: number } {
    return this.#relay?.bytes() ?? this.sent;
  }

  /** Ends the work that is under way. The first cause wins; an open tunnel is ended by its relay alone. */
  stop(end: TunnelEnd): void {
    if (this.#stopped !== undefined || this.#relay !== undefined) return;
    this.#stopped = end;
    this.#stop?.abort();
  }

  /** Cuts this tunnel in whatever state it is; a second time without last words. Safe to call at any time. */
  sever(reason: Reason): void {
    this.#relay?.sever(reason);
    if (this.#stopped !== undefined) this.#client?.close();
    this.stop({ cause: 'severed', reason });
  }

  /** From here on the relay owns both connections. What only the set-up needed is let go: thousands may stay open for long. */
  carry(relay: RelayHandle): void {
    this.#relay = relay;
    this.#client = undefined;
    this.#stop = undefined;
    this.#carriedAt = performance.now();
    this.state = 'open';
  }

  /** Seconds since the relay has it. */
  get carriedSeconds(): number {
    return (performance.now() - this.#carriedAt) / 1000;
  }
}
