// Hands the descriptors of a tunnel to the splice thread and tells its end. From the hand-over on JavaScript sees no byte and
// keeps no socket; a tunnel that cannot be handed over is carried by the JavaScript relay.
import type { Socket } from 'node:net';
import type { Reason } from '../../policy/index.ts';
import { hearErrors, resetSocket } from '../sockets.ts';
import type { Engine, RelayAddon } from './addon.ts';
import { handleOf, isFlushed, takeUnread, whenFlushed, type TcpHandle } from './hand-over.ts';
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
  state: 'flushing' | 'open' | 'ended';
  /** Cuts a tunnel that the thread does not have yet. */
  cutEarly?: (cause: RelayCause) => void;
}

/** Both sides of a tunnel that can be handed over. */
interface Ends {
  readonly client: TcpHandle;
  readonly upstream: TcpHandle;
}

/** A relay on one thread of its own, which starts with the first tunnel. */
export function createSpliceRelay(addon: RelayAddon): Relay {
  const javascript = createJavascriptRelay();
  const carrier = new Carrier(addon);
  return {
    name: 'splice',
    open(request) {
      const ends = endsOf(request);
      const id = ends === undefined ? -1 : carrier.reserve(ends);
      if (ends === undefined || id === -1) return javascript.open(request);
      return openTunnel(carrier, id, ends, request);
    },
    close: () => carrier.stop(),
  };
}

/** Undefined for what the JavaScript relay must end or carry: a dead socket, no TCP, a budget that is spent before it begins. */
function endsOf({
  client,
  upstream,
  toUpstream,
  sent,
  maxUpBytes,
  maxDownBytes,
}: RelayRequest): Ends | undefined {
  const ends = { client: handleOf(client), upstream: handleOf(upstream) };
  if (ends.client === undefined || ends.upstream === undefined) return undefined;
  const up = (sent?.up ?? 0) + toUpstream.length + client.readableLength;
  const down = (sent?.down ?? 0) + upstream.readableLength;
  const isWithin = up <= (maxUpBytes ?? Infinity) && down <= (maxDownBytes ?? Infinity);
  return isWithin ? { client: ends.client, upstream: ends.upstream } : undefined;
}

function openTunnel(carrier: Carrier, id: number, ends: Ends, request: RelayRequest): RelayHandle {
  const { promise: done, resolve: settle } = Promise.withResolvers<RelayEnd>();
  const { up, down } = request.sent ?? { up: 0, down: 0 };
  const tunnel: Tunnel = { id, onBytes: request.onBytes ?? (() => {}), settle, up, down, state: 'flushing' };
  forwardUnread(tunnel, ends, request);
  if (isFlushed(request.client) && isFlushed(request.upstream)) handOver(carrier, tunnel, request);
  else flush(carrier, tunnel, request);
  return handleFor(carrier, tunnel, done);
}

/** Apart from the request, so that what it closes over holds no socket. */
function handleFor(carrier: Carrier, tunnel: Tunnel, done: Promise<RelayEnd>): RelayHandle {
  return {
    done,
    sever: (reason) => carrier.sever(tunnel, reason),
    bytes: () => carrier.bytes(tunnel),
  };
}

/** Sends on what Node had read of both sides, behind what it wrote before. */
function forwardUnread(tunnel: Tunnel, ends: Ends, { client, upstream, toUpstream }: RelayRequest): void {
  hearErrors(client);
  hearErrors(upstream);
  const fromClient = [toUpstream, ...takeUnread(client, ends.client)];
  const fromUpstream = takeUnread(upstream, ends.upstream);
  tell(tunnel, tunnel.up + writeAll(upstream, fromClient), tunnel.down + writeAll(client, fromUpstream));
}

function writeAll(socket: Socket, chunks: readonly Buffer[]): number {
  const full = chunks.filter((chunk) => chunk.length > 0);
  for (const chunk of full) socket.write(chunk);
  return full.reduce((total, chunk) => total + chunk.length, 0);
}

function tell(tunnel: Tunnel, up: number, down: number): void {
  const [upMore, downMore] = [up - tunnel.up, down - tunnel.down];
  tunnel.up = up;
  tunnel.down = down;
  if (upMore > 0 || downMore > 0) tunnel.onBytes(upMore, downMore);
}

/** Rare: a side did not take at once what was written to it. Nothing is read until it has. */
function flush(carrier: Carrier, tunnel: Tunnel, request: RelayRequest): void {
  const { client, upstream } = request;
  const sockets = [client, upstream];
  const cut = (cause: RelayCause): void => {
    if (tunnel.state !== 'flushing') return;
    tunnel.state = 'ended';
    clearTimeout(idle);
    carrier.giveBack(tunnel);
    for (const socket of sockets) resetSocket(socket);
    void Promise.all(sockets.map(closed)).then(() => tunnel.settle(endFor(tunnel, cause)));
  };
  const idle = setTimeout(cut, request.idleTimeoutMs, 'idle');
  tunnel.cutEarly = cut;
  client.once('close', () => cut('client_error'));
  upstream.once('close', () => cut('upstream_error'));
  whenFlushed(sockets, () => {
    if (tunnel.state !== 'flushing') return;
    clearTimeout(idle);
    delete tunnel.cutEarly;
    handOver(carrier, tunnel, request);
  });
}

async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise<void>((resolve) => void socket.once('close', () => resolve()));
}

/** Node closes its descriptors: that sends no FIN, because the thread's duplicates live. */
function handOver(carrier: Carrier, tunnel: Tunnel, request: RelayRequest): void {
  tunnel.state = 'open';
  request.client.destroy();
  request.upstream.destroy();
  carrier.open(tunnel, request);
}

function endFor({ up, down, severReason }: Tunnel, cause: RelayCause): RelayEnd {
  const isSevered = cause === 'severed' && severReason !== undefined;
  return { cause, upBytes: up, downBytes: down, ...(isSevered ? { severReason } : {}) };
}

/** The thread, and the tunnels it carries. */
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

  /** -1 when the thread cannot take one more. */
  reserve({ client, upstream }: Ends): number {
    return this.#addon.reserve(this.#engine, client.fd, upstream.fd);
  }

  giveBack({ id }: Tunnel): void {
    this.#addon.end(this.#engine, id);
  }

  open(tunnel: Tunnel, { maxUpBytes, maxDownBytes, idleTimeoutMs }: RelayRequest): void {
    const { id, up, down } = tunnel;
    const budgets = [maxUpBytes ?? Infinity, maxDownBytes ?? Infinity] as const;
    this.#tunnels.set(id, tunnel);
    this.#teller ??= setInterval(() => this.#tellAll(), tellEveryMs).unref();
    this.#addon.open(this.#engine, id, up, down, ...budgets, idleTimeoutMs);
  }

  /** The first end wins; its reason with it. */
  sever(tunnel: Tunnel, reason: Reason): void {
    if (tunnel.state === 'ended') return;
    tunnel.severReason ??= reason;
    if (tunnel.cutEarly !== undefined) tunnel.cutEarly('severed');
    else this.#addon.end(this.#engine, tunnel.id);
  }

  bytes(tunnel: Tunnel): { up: number; down: number } {
    if (tunnel.state !== 'open') return { up: tunnel.up, down: tunnel.down };
    const [up = 0, down = 0] = this.#read(tunnel);
    return { up, down };
  }

  stop(): void {
    this.#addon.stop(this.#engine);
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
    tunnel.state = 'ended';
    tell(tunnel, up, down);
    tunnel.settle(endFor(tunnel, causes[cause] ?? 'upstream_error'));
  }
}
