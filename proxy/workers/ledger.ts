// Keeps every tunnel that the audit knows of on the board until its close line is with the kernel, so that the parent can write the
// close lines of a worker that died. Wraps an audit; writes no line itself.
import { type Audit, AuditUnavailable, type CloseEvent, type DecisionEvent } from '../observe/index.ts';
import { type Board, type Phase, phases } from './board.ts';

/** The part of both events that the parent needs to write a close line. */
export type LedgerEntry = Pick<
  CloseEvent,
  'tunnel' | 'principal' | 'peer' | 'listener' | 'mode' | 'host' | 'port' | 'verdict' | 'policy'
> & { readonly since: number };

export interface LedgerAudit extends Audit {
  /** Notes the payload bytes of open tunnels. To be called now and then: it also strikes out what is closed. */
  count(tunnels: readonly { readonly id: string; readonly up: number; readonly down: number }[]): void;
}

/** Hosts that could not be read are shown in a printable form of up to 512 characters; names have at most 253. */
const maxShownHost = 253;

/** `audit` for worker number `worker`. An allow that finds no slot is refused with AuditUnavailable. */
export function ledgerAudit(audit: Audit, board: Board, worker: number, clock: () => number): LedgerAudit {
  const ledger = new Ledger(board, worker, clock);
  const sweep = (): void => {
    if (audit.state.kept === 0) ledger.sweep();
  };
  return {
    get state() {
      return audit.state;
    },
    get fd() {
      return audit.fd;
    },
    decided(...events) {
      for (const event of events)
        if (!ledger.enter(event) && event.verdict === 'allow')
          throw new AuditUnavailable('board', 'there is no room to note one more tunnel');
      audit.decided(...events);
      for (const { tunnel } of events) ledger.mark(tunnel, 'recorded');
    },
    closed(...events) {
      for (const { tunnel } of events) ledger.mark(tunnel, 'closing');
      audit.closed(...events);
      for (const { tunnel } of events) ledger.leave(tunnel);
      sweep();
    },
    count(tunnels) {
      ledger.count(tunnels);
      sweep();
    },
    named: (event) => audit.named(event),
    dropped: (...events) => audit.dropped(...events),
    probe: () => audit.probe(),
    reopen: () => audit.reopen(),
    close: () => audit.close(),
  };
}

/** The slots of one worker. */
class Ledger {
  readonly #board: Board;
  readonly #worker: number;
  readonly #clock: () => number;
  readonly #slots = new Map<string, number>();
  readonly #free: number[] = [];
  /** Tunnels whose close line is on its way. */
  #leaving: string[] = [];
  #used = 0;

  constructor(board: Board, worker: number, clock: () => number) {
    this.#board = board;
    this.#worker = worker;
    this.#clock = clock;
  }

  /** False when there is no slot, or the entry is too long for one. */
  enter(event: DecisionEvent): boolean {
    const slot = this.#slots.get(event.tunnel) ?? this.#take();
    if (slot === undefined) return false;
    this.#slots.set(event.tunnel, slot);
    const text = JSON.stringify(entryOf(event, this.#clock()));
    return this.#board.addon.write(this.#board.handle, this.#worker, slot, text);
  }

  mark(tunnel: string, phase: Phase): void {
    const slot = this.#slots.get(tunnel);
    if (slot !== undefined)
      this.#board.addon.mark(this.#board.handle, this.#worker, slot, phases.indexOf(phase));
  }

  leave(tunnel: string): void {
    if (this.#slots.has(tunnel)) this.#leaving.push(tunnel);
  }

  /** Every close line so far is with the kernel. */
  sweep(): void {
    for (const tunnel of this.#leaving) {
      const slot = this.#slots.get(tunnel);
      if (slot === undefined) continue;
      this.mark(tunnel, 'free');
      this.#slots.delete(tunnel);
      this.#free.push(slot);
    }
    this.#leaving = [];
  }

  count(tunnels: readonly { readonly id: string; readonly up: number; readonly down: number }[]): void {
    const { addon, handle } = this.#board;
    for (const { id, up, down } of tunnels) {
      const slot = this.#slots.get(id);
      if (slot !== undefined) addon.count(handle, this.#worker, slot, up, down);
    }
  }

  /** One that was in use before anything else: what is never touched takes no memory. */
  #take(): number | undefined {
    const slot = this.#free.pop();
    if (slot !== undefined || this.#used === this.#board.shape.slots) return slot;
    this.#used += 1;
    return this.#used - 1;
  }
}

function entryOf(event: DecisionEvent, since: number): LedgerEntry {
  const { tunnel, principal, peer, listener, mode, port, verdict, policy } = event;
  const host = event.host.slice(0, maxShownHost);
  return { tunnel, principal, peer, listener, mode, host, port, verdict, policy, since };
}
