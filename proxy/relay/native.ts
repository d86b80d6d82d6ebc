// Hands the descriptors of a tunnel to the splice threads and tells its end. From then on JavaScript sees no byte and keeps no socket; a tunnel
// whose descriptors cannot be had is carried by the JavaScript relay.
import type { Reason } from '../../policy/index.ts';
import type { Engine, RelayAddon } from './addon.ts';
import { createJavascriptRelay } from './javascript.ts';
import type { Relay, RelayCause, RelayEnd, RelayHandle, RelayRequest } from './types.ts';

/** How often the bytes of open tunnels are told to their `onBytes`. */
const tellEveryMs = 1000;

/** In the order of relay_cause in relay.h. */
const causes: readonly RelayCause[] = [
  'both_ended',
  'idle',
  'limit_bytes',
  'severed',
  'client_error',
  'upstream_error',
];

/** What is kept of a tunnel, and what its holder has of it; no socket, so that an idle one costs little. */
class Tunnel implements RelayHandle {
  readonly id: number;
  readonly done: Promise<RelayEnd>;
  readonly #settle: (end: RelayEnd) => void;
  readonly #carrier: Carrier;
  readonly #onBytes: RelayRequest['onBytes'];
  /** Bytes so far, as far as `onBytes` knows. */
  #up: number;
  #down: number;
  #severReason: Reason | undefined;
  #isOver = false;

  constructor(carrier: Carrier, id: number, { sent, onBytes }: RelayRequest) {
    const { promise, resolve } = Promise.withResolvers<RelayEnd>();
    this.id = id;
    this.done = promise;
    this.#settle = resolve;
    this.#carrier = carrier;
    this.#onBytes = onBytes;
    this.#up = sent?.up ?? 0;
    this.#down = sent?.down ?? 0;
  }

  /** The first end wins; its reason with it. */
  sever(reason: Reason): void {
    if (this.#isOver) return;
    this.#severReason ??= reason;
    this.#carrier.sever(this);
  }

  bytes(): { up: number; down: number } {
    return this.#isOver ? { up: this.#up, down: this.#down } : this.#carrier.bytes(this);
  }

  tell(up: number, down: number): void {
    const [upMore, downMore] = [up - this.#up, down - this.#down];
    this.#up = up;
    this.#down = down;
    if (upMore > 0 || downMore > 0) this.#onBytes?.(upMore, downMore);
  }

  end(cause: RelayCause): void {
    const severReason = this.#severReason;
    const isSevered = cause === 'severed' && severReason !== undefined;
    this.#isOver = true;
    this.#settle({
      cause,
      upBytes: this.#up,
      downBytes: this.#down,
      ...(isSevered ? { severReason } : {}),
    });
  }
}

/** A relay on threads of its own, which start with it. */
export function createSpliceRelay(addon: RelayAddon): Relay {
  const javascript = createJavascriptRelay();
  const carrier = new Carrier(addon);
  return {
    name: 'splice',
    open(request) {
      if (!isWithinBudget(request)) return javascript.open(request);
      const begun = passHeld(request);
      const canRelease = request.client.canRelease && request.upstream.canRelease;
      return canRelease ? carrier.open(begun) : javascript.open(begun);
    },
    close: () => carrier.stop(),
  };
}

/** What is over a budget from the start is cut to the byte by the JavaScript relay. */
function isWithinBudget({ client, upstream, sent, maxUpBytes, maxDownBytes }: RelayRequest): boolean {
  const up = (sent?.up ?? 0) + client.heldBytes;
  const down = (sent?.down ?? 0) + upstream.heldBytes;
  return up <= (maxUpBytes ?? Infinity) && down <= (maxDownBytes ?? Infinity);
}

/** Lets each write what the other holds; the request as it stands then. */
function passHeld(request: RelayRequest): RelayRequest {
  const { client, upstream, onBytes, sent = { up: 0, down: 0 } } = request;
  const [up, down] = [client.takeHeld(), upstream.takeHeld()];
  if (up.length > 0) upstream.write(up);
  if (down.length > 0) client.write(down);
  if (up.length > 0 || down.length > 0) onBytes?.(up.length, down.length);
  return { ...request, sent: { up: sent.up + up.length, down: sent.down + down.length } };
}

class Carrier {
  readonly #addon: RelayAddon;
  readonly #engine: Engine;
  readonly #tunnels = new Map<number, Tunnel>();
  readonly #counts = new Float64Array(2);
  #teller: NodeJS.Timeout | undefined;
  #isFlushing = false;

  constructor(addon: RelayAddon) {
    this.#addon = addon;
    this.#engine = addon.create((id, cause, up, down) => this.#ended(id, cause, up, down));
  }

  open(request: RelayRequest): RelayHandle {
    const { client, upstream, sent = { up: 0, down: 0 }, maxUpBytes, maxDownBytes, idleTimeoutMs } = request;
    const fds = [client.release(), upstream.release()] as const;
    const budgets = [maxUpBytes ?? Infinity, maxDownBytes ?? Infinity] as const;
    const id = this.#addon.open(this.#engine, ...fds, sent.up, sent.down, ...budgets, idleTimeoutMs);
    const tunnel = new Tunnel(this, id, request);
    if (id === -1) tunnel.end('client_error');
    else this.#enter(tunnel);
    this.#flushSoon();
    return tunnel;
  }

  stop(): void {
    this.#addon.stop(this.#engine);
  }

  #enter(tunnel: Tunnel): void {
    this.#tunnels.set(tunnel.id, tunnel);
    this.#teller ??= setInterval(() => this.#tellAll(), tellEveryMs).unref();
  }

  /** Once for all tunnels that one turn of the event loop opens. */
  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    process.nextTick(() => {
      this.#isFlushing = false;
      this.#addon.flush(this.#engine);
    });
  }

  sever({ id }: Tunnel): void {
    this.#addon.sever(this.#engine, id);
  }

  bytes({ id }: Tunnel): { up: number; down: number } {
    this.#addon.bytes(this.#engine, id, this.#counts);
    const [up = 0, down = 0] = this.#counts;
    return { up, down };
  }

  #tellAll(): void {
    for (const tunnel of this.#tunnels.values()) {
      const { up, down } = this.bytes(tunnel);
      tunnel.tell(up, down);
    }
  }

  #ended(id: number, cause: number, up: number, down: number): void {
    const tunnel = this.#tunnels.get(id);
    if (tunnel === undefined) return;
    this.#tunnels.delete(id);
    if (this.#tunnels.size === 0) {
      clearInterval(this.#teller);
      this.#teller = undefined;
    }
    tunnel.tell(up, down);
    tunnel.end(causes[cause] ?? 'upstream_error');
  }
}
