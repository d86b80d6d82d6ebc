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

/** What is kept of a tunnel; no socket, so that an idle one costs little. */
interface Tunnel {
  readonly id: number;
  readonly onBytes: NonNullable<RelayRequest['onBytes']>;
  readonly settle: (end: RelayEnd) => void;
  /** Bytes so far, as far as `onBytes` knows. */
  up: number;
  down: number;
  severReason?: Reason;
  isOver: boolean;
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

function tell(tunnel: Tunnel, up: number, down: number): void {
  const [upMore, downMore] = [up - tunnel.up, down - tunnel.down];
  tunnel.up = up;
  tunnel.down = down;
  if (upMore > 0 || downMore > 0) tunnel.onBytes(upMore, downMore);
}

function endFor({ up, down, severReason }: Tunnel, cause: RelayCause): RelayEnd {
  const isSevered = cause === 'severed' && severReason !== undefined;
  return { cause, upBytes: up, downBytes: down, ...(isSevered ? { severReason } : {}) };
}

/** The threads, and the tunnels they carry. */
class Carrier {
  readonly #addon: RelayAddon;
  readonly #engine: Engine;
  readonly #tunnels = new Map<number, Tunnel>();
  readonly #counts = new Float64Array(2);
  #teller: NodeJS.Timeout | undefined;

  constructor(addon: RelayAddon) {
    this.#addon = addon;
    this.#engine = addon.create((id, cause, up, down) => this.#ended(id, cause, up, down));
  }

  open({
    client,
    upstream,
    sent,
    maxUpBytes,
    maxDownBytes,
    idleTimeoutMs,
    onBytes,
  }: RelayRequest): RelayHandle {
    const { promise: done, resolve: settle } = Promise.withResolvers<RelayEnd>();
    const { up, down } = sent ?? { up: 0, down: 0 };
    const fds = [client.release(), upstream.release()] as const;
    const budgets = [maxUpBytes ?? Infinity, maxDownBytes ?? Infinity] as const;
    const id = this.#addon.open(this.#engine, ...fds, up, down, ...budgets, idleTimeoutMs);
    const tunnel: Tunnel = { id, onBytes: onBytes ?? (() => {}), settle, up, down, isOver: false };
    if (id === -1) this.#settle(tunnel, 'client_error');
    else this.#enter(tunnel);
    return { done, sever: (reason) => this.#sever(tunnel, reason), bytes: () => this.#bytes(tunnel) };
  }

  stop(): void {
    this.#addon.stop(this.#engine);
  }

  #enter(tunnel: Tunnel): void {
    this.#tunnels.set(tunnel.id, tunnel);
    this.#teller ??= setInterval(() => this.#tellAll(), tellEveryMs).unref();
  }

  /** The first end wins; its reason with it. */
  #sever(tunnel: Tunnel, reason: Reason): void {
    if (tunnel.isOver) return;
    tunnel.severReason ??= reason;
    this.#addon.sever(this.#engine, tunnel.id);
  }

  #bytes(tunnel: Tunnel): { up: number; down: number } {
    if (tunnel.isOver) return { up: tunnel.up, down: tunnel.down };
    const [up = 0, down = 0] = this.#read(tunnel);
    return { up, down };
  }

  #read({ id }: Tunnel): Float64Array {
    this.#addon.bytes(this.#engine, id, this.#counts);
    return this.#counts;
  }

  #tellAll(): void {
    for (const tunnel of this.#tunnels.values()) {
      const [up = 0, down = 0] = this.#read(tunnel);
      tell(tunnel, up, down);
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
    tell(tunnel, up, down);
    this.#settle(tunnel, causes[cause] ?? 'upstream_error');
  }

  #settle(tunnel: Tunnel, cause: RelayCause): void {
    tunnel.isOver = true;
    tunnel.settle(endFor(tunnel, cause));
  }
}
