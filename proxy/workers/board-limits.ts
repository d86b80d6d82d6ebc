// The limits of proxy/limits.ts, counted on the board: they hold for all workers together. Knows no sockets and no policy.
import type { ProxySettings } from '../config-types.ts';
import { type Limits, maxLingering } from '../limits.ts';
import type { Deps } from '../types.ts';
import { type Board, type PlaceKind, placeKinds, principalIndex } from './board.ts';

interface Sizes {
  readonly maxTunnels: number;
  readonly maxTunnelsPerPrincipal: number;
  /** ns between two, and how many at once; null is unhurried. */
  readonly rate: { readonly interval: number; readonly burst: number } | null;
}

/** Worker number `worker`'s door to the limits of the whole proxy. */
export function boardLimits(
  board: Board,
  worker: number,
  settings: ProxySettings,
): Pick<Deps, 'limits' | 'waiting' | 'lingering'> {
  const { maxTunnels, maxTunnelsPerPrincipal, connectionsPerSecond, connectionBurst: burst } = settings;
  const principals = principalIndex(settings);
  const sizes = { maxTunnels, maxTunnelsPerPrincipal, rate: null };
  const rate = { interval: Math.round(1e9 / connectionsPerSecond), burst };
  const make = (kind: PlaceKind, own: Sizes): Limits => limitsOf({ board, worker, principals, kind, ...own });
  return {
    limits: make('tunnels', { ...sizes, rate }),
    waiting: make('waiting', sizes),
    lingering: make('lingering', { ...sizes, ...maxLingering }),
  };
}

interface LimitParts extends Sizes {
  readonly board: Board;
  readonly worker: number;
  readonly principals: ReadonlyMap<string, number>;
  readonly kind: PlaceKind;
}

function limitsOf(parts: LimitParts): Limits {
  const { board, worker, principals, maxTunnels, maxTunnelsPerPrincipal, rate } = parts;
  const { addon, handle } = board;
  const kind = placeKinds.indexOf(parts.kind);
  return {
    acquire(name) {
      const principal = principals.get(name) ?? 0;
      // A refused attempt costs too: retrying in a loop does not help.
      if (rate !== null && !addon.pass(handle, principal, addon.clock(), rate.interval, rate.burst))
        return { ok: false, reason: 'limit_rate' };
      if (!addon.take(handle, worker, kind, principal, maxTunnels, maxTunnelsPerPrincipal))
        return { ok: false, reason: 'limit_tunnels' };
      let isHeld = true;
      return {
        ok: true,
        release() {
          if (isHeld) addon.give(handle, worker, kind, principal);
          isHeld = false;
        },
      };
    },
    get open() {
      return addon.held(handle, kind);
    },
  };
}
