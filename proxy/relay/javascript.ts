// Carries bytes both ways in JavaScript until both sides have ended. The relay that always works; knows nothing of policy.
import type { Socket } from 'node:net';
import type { Reason } from '../../policy/index.ts';
import { hearErrors, resetSocket } from '../sockets.ts';
import type { Relay, RelayCause, RelayEnd, RelayHandle, RelayRequest } from './types.ts';

/** A relay over plain net.Sockets: data, write, pause and resume, no stream machinery in between. */
export function createJavascriptRelay(): Relay {
  return { name: 'javascript', open, close() {} };
}

/** One way through the tunnel. `bytes` never exceeds `budget`. */
interface Direction {
  readonly from: Socket;
  readonly to: Socket;
  readonly budget: number;
  readonly tell: (bytes: number) => void;
  bytes: number;
}

interface Tunnel {
  readonly up: Direction;
  readonly down: Direction;
  readonly idle: NodeJS.Timeout;
  readonly settle: (end: RelayEnd) => void;
  /** Set once, when the tunnel is cut short; undefined while it lives and after a clean end. */
  cut?: { readonly cause: RelayCause; readonly severReason?: Reason };
  socketsOpen: number;
}

function open(request: RelayRequest): RelayHandle {
  const { idleTimeoutMs, onBytes, sent = { up: 0, down: 0 } } = request;
  const held = { client: request.client.takeHeld(), upstream: request.upstream.takeHeld() };
  const [client, upstream] = [request.client.toSocket(), request.upstream.toSocket()];
  const { promise: done, resolve: settle } = Promise.withResolvers<RelayEnd>();
  const tunnel: Tunnel = {
    up: {
      ...direction(client, upstream, request.maxUpBytes, (bytes) => onBytes?.(bytes, 0)),
      bytes: sent.up,
    },
    down: {
      ...direction(upstream, client, request.maxDownBytes, (bytes) => onBytes?.(0, bytes)),
      bytes: sent.down,
    },
    idle: setTimeout(() => cutShort(tunnel, 'idle'), idleTimeoutMs),
    settle,
    socketsOpen: 2,
  };
  watch(tunnel, client, 'client_error');
  watch(tunnel, upstream, 'upstream_error');
  forward(tunnel, tunnel.up, held.client);
  forward(tunnel, tunnel.down, held.upstream);
  carry(tunnel, tunnel.up);
  carry(tunnel, tunnel.down);
  return {
    done,
    sever: (reason) => cutShort(tunnel, 'severed', reason),
    bytes: () => ({ up: tunnel.up.bytes, down: tunnel.down.bytes }),
  };
}

function direction(
  from: Socket,
  to: Socket,
  budget: number | null,
  tell: (bytes: number) => void,
): Direction {
  return { from, to, budget: budget ?? Infinity, tell, bytes: 0 };
}

/** A side that breaks, or that someone closes before its time, ends the tunnel; one that closes after both FINs does not. */
function watch(tunnel: Tunnel, socket: Socket, broken: 'client_error' | 'upstream_error'): void {
  const onClose = (): void => {
    if (!socket.readableEnded || !socket.writableFinished) cutShort(tunnel, broken);
    tunnel.socketsOpen -= 1;
    if (tunnel.socketsOpen === 0) finish(tunnel);
  };
  hearErrors(socket);
  // Without this Node would answer a FIN with a FIN, and cut off what still flows the other way.
  socket.allowHalfOpen = true;
  if (socket.closed) queueMicrotask(onClose);
  else socket.once('close', onClose);
}

function carry(tunnel: Tunnel, way: Direction): void {
  const { from, to } = way;
  from.on('data', (chunk: Buffer) => forward(tunnel, way, chunk));
  // Only the other side's writing half: it may have much to say yet (git over CONNECT does).
  from.once('end', () => void to.end());
  to.on('drain', () => {
    tunnel.idle.refresh();
    from.resume();
  });
  if (from.readableEnded) to.end();
  else if (!to.writableNeedDrain) from.resume();
}

function forward(tunnel: Tunnel, way: Direction, chunk: Buffer): void {
  if (tunnel.cut !== undefined) return;
  // What crossed before may have overdrawn a small budget.
  const room = Math.max(0, way.budget - way.bytes);
  send(tunnel, way, chunk.length > room ? chunk.subarray(0, room) : chunk);
  if (chunk.length > room) cutShort(tunnel, 'limit_bytes');
}

function send(tunnel: Tunnel, way: Direction, chunk: Buffer): void {
  if (chunk.length === 0) return;
  way.bytes += chunk.length;
  way.tell(chunk.length);
  tunnel.idle.refresh();
  if (!way.to.write(chunk)) way.from.pause();
}

/** The first cause wins. Both sides get a RST: neither may take a cut stream for a whole one. */
function cutShort(tunnel: Tunnel, cause: RelayCause, severReason?: Reason): void {
  if (tunnel.cut !== undefined || tunnel.socketsOpen === 0) return;
  tunnel.cut = { cause, ...(severReason === undefined ? {} : { severReason }) };
  resetSocket(tunnel.up.from);
  resetSocket(tunnel.up.to);
}

function finish({ idle, settle, cut, up, down }: Tunnel): void {
  clearTimeout(idle);
  settle({ ...(cut ?? { cause: 'both_ended' }), upBytes: up.bytes, downBytes: down.bytes });
}
