// Every client there is now, and the one place to cut some of them. Keeps no history and decides nothing.
import type { Mode, Reason } from '../policy/index.ts';
import type { Tunnel, TunnelState } from './tunnel.ts';

/** What may be shown of a tunnel: times in ms since 1970, payload bytes so far. */
export interface TunnelInfo {
  readonly id: string;
  readonly principal: string | null;
  readonly host: string;
  readonly port: number | null;
  readonly mode: Mode;
  readonly rule: string | null;
  readonly policy: string;
  readonly state: TunnelState;
  readonly openedAt: number;
  readonly up: number;
  readonly down: number;
}

export interface TunnelTable {
  enter(tunnel: Tunnel): void;
  leave(tunnel: Tunnel): void;
  list(): readonly TunnelInfo[];
  /** Cuts every tunnel for which `pred` holds, or throws: one that cannot be judged is not admitted. How many there were. */
  severWhere(pred: (tunnel: Tunnel) => boolean, reason: Reason): number;
  /**
   * The same for everyone there is now, some at a time, so that nobody waits while thousands are judged. Who enters meanwhile is not looked
   * at.
   */
  severInTurns(pred: (tunnel: Tunnel) => boolean, reason: Reason): Promise<number>;
  severAll(reason: Reason): number;
  readonly size: number;
  /** Settles when nobody is left. */
  idle(): Promise<void>;
}

export function createTunnelTable(): TunnelTable {
  const tunnels = new Set<Tunnel>();
  let waiters: (() => void)[] = [];
  return {
    enter: (tunnel) => void tunnels.add(tunnel),
    leave(tunnel) {
      tunnels.delete(tunnel);
      if (tunnels.size > 0) return;
      for (const wake of waiters) wake();
      waiters = [];
    },
    list: () => [...tunnels].map(infoOf),
    severAll: (reason) => severAmong([...tunnels], () => true, reason),
    severWhere(pred, reason) {
      return severAmong([...tunnels], pred, reason);
    },
    async severInTurns(pred, reason) {
      const all = [...tunnels];
      let cut = 0;
      for (let at = 0; at < all.length; at += sliceTunnels) {
        if (at > 0) await nextTurn();
        cut += severAmong(all.slice(at, at + sliceTunnels), pred, reason);
      }
      return cut;
    },
    get size() {
      return tunnels.size;
    },
    async idle() {
      if (tunnels.size > 0) await new Promise<void>((wake) => void waiters.push(wake));
    },
  };
}

/** Judging and cutting so many takes a millisecond, and three when their rules are met for the first time. */
const sliceTunnels = 100;

async function nextTurn(): Promise<void> {
  await new Promise<void>((resolve) => void setImmediate(resolve));
}

function severAmong(tunnels: readonly Tunnel[], pred: (tunnel: Tunnel) => boolean, reason: Reason): number {
  const cut = tunnels.filter((tunnel) => holds(pred, tunnel));
  for (const tunnel of cut) tunnel.sever(reason);
  return cut.length;
}

function holds(pred: (tunnel: Tunnel) => boolean, tunnel: Tunnel): boolean {
  try {
    return pred(tunnel);
  } catch {
    return true;
  }
}

function infoOf({ id, start, decision, state, bytes, policy }: Tunnel): TunnelInfo {
  return {
    id,
    principal: start.principal?.name ?? null,
    host: decision?.host ?? '',
    port: decision?.port ?? null,
    mode: start.mode,
    rule: decision?.rule?.id ?? null,
    policy: policy?.digest ?? '',
    state,
    openedAt: start.openedAt,
    ...bytes,
  };
}
