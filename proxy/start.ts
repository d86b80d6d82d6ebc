// Starts a proxy of one process: the control plane over one data plane. Several processes are workers/fleet.ts.
import type { ProxySettings } from './config.ts';
import { startControl, type RunningProxy, type StartOptions } from './control-plane.ts';
import { createClientPlane, createTunnels, limitsOf } from './client-plane.ts';
import { placesOf } from './server.ts';
import type { TunnelTable } from './tunnel-table.ts';

export type { RunningProxy, StartOptions } from './control-plane.ts';

/** A proxy whose tunnels are all in this process. */
export interface SingleProxy extends RunningProxy {
  readonly table: TunnelTable;
}

/**
 * Starts a proxy. Throws what is wrong with the policy, the audit, an address or the user; then nothing is left open.
 * Order: policy and audit, every socket, privileges dropped, what must stay readable read again, `ready`.
 */
export async function startProxy(settings: ProxySettings, options: StartOptions = {}): Promise<SingleProxy> {
  const tunnels = createTunnels();
  const { onBug = () => {} } = options;
  const proxy = await startControl(
    settings,
    options,
    async (policy) => await tunnels.sever(policy),
    ({ store, audit }) => {
      const plane = createClientPlane({ settings, tunnels, store, audit, limits: limitsOf(settings), onBug });
      return {
        ...plane,
        audit,
        open: async () => await plane.open(placesOf(settings, store.current)),
        async serve() {},
      };
    },
  );
  return { ...proxy, table: tunnels.table };
}
