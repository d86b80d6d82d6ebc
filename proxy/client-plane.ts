// Everything that carries clients in one process: tunnels, ports, relay, resolver, counts. Loads no policy and serves no operator;
// a proxy is one of these, or several under one control plane.
import manifest from '../package.json' with { type: 'json' };
import type { Address, Policy } from '../policy/index.ts';
import { admits } from './admission.ts';
import type { ProxySettings } from './config.ts';
import { chooseDataPlane } from './data-plane.ts';
import type { Stage } from './errors.ts';
import { createLimits, endless, maxLingering } from './limits.ts';
import { type Audit, createMetrics, createObserve, type Metrics, type PolicyFacts } from './observe/index.ts';
import { watchOwnAddresses } from './own-addresses.ts';
import { dialer } from './parent.ts';
import { createResolver } from './resolve.ts';
import { openPorts, type OpenPort, type Place } from './server.ts';
import { createTunnelTable, type TunnelTable } from './tunnel-table.ts';
import type { Deps } from './types.ts';
import { within } from './within.ts';

/** The tunnels of this process: there before the policy is, so that its first reload can look through them. */
export interface Tunnels {
  readonly table: TunnelTable;
  readonly ownAddresses: () => readonly Address[];
  /** Cuts what `policy` would not admit; how many. */
  sever(policy: Policy): Promise<number>;
}

export function createTunnels(): Tunnels {
  const table = createTunnelTable();
  const ownAddresses = watchOwnAddresses(Date.now);
  const sever = async (policy: Policy): Promise<number> =>
    await table.severInTurns((tunnel) => !admits(policy, tunnel, ownAddresses()), 'policy_changed');
  return { table, ownAddresses, sever };
}

export interface ClientPlaneParts {
  readonly settings: ProxySettings;
  readonly tunnels: Tunnels;
  readonly store: { readonly current: Policy; readonly state: PolicyFacts };
  readonly audit: Audit;
  readonly limits: Pick<Deps, 'limits' | 'waiting' | 'lingering'>;
  readonly onBug: (error: unknown, stage: Stage) => void;
}

export interface ClientPlane {
  /** Who carries the bytes. */
  readonly relay: string;
  readonly table: TunnelTable;
  readonly metrics: Metrics;
  readonly isDraining: () => boolean;
  /** Takes clients at `places`. All or none: throws what is wrong with one. */
  open(places: readonly Place[]): Promise<readonly OpenPort[]>;
  /** Takes nobody new, waits for who is there, cuts who is left after `timeoutMs`, and closes. */
  drain(timeoutMs: number): Promise<void>;
  /** Cuts everybody and gives everything back. */
  close(): Promise<void>;
}

/** How long clients that are cut by a close may take to read why. */
const lastWordsMs = 50;

/** An answer is kept as long as its TTL says, within these; a failure briefly. */
export const resolverLimits = {
  minTtlMs: 1000,
  maxTtlMs: 300_000,
  negativeTtlMs: 5000,
  maxEntries: 10_000,
} as const;

/** Puts the parts together. Throws RelayUnavailable. */
export function createClientPlane(parts: ClientPlaneParts): ClientPlane {
  const { settings, tunnels, store, limits, audit, onBug } = parts;
  const { table, ownAddresses } = tunnels;
  const { network, relay } = chooseDataPlane(settings.relay);
  const metrics = metricsOf(settings, relay.name, { store, audit });
  const resolver = createResolver({
    ...resolverLimits,
    servers: settings.resolver,
    hostsFile: settings.hosts,
    timeoutMs: settings.dnsTimeoutMs,
  });
  const draining = { now: false };
  const deps: Deps = {
    settings,
    policyStore: store,
    resolver,
    ...limits,
    network,
    relay,
    table,
    observers: createObserve({ audit, metrics, onBug }),
    dial: dialer({ parent: settings.parent, resolvesNames: settings.parentResolvesNames, resolver }),
    ownAddresses,
    clock: Date.now,
    isDraining: () => draining.now,
  };
  return running(deps, metrics, draining);
}

export function metricsOf(
  settings: ProxySettings,
  relay: string,
  { store, audit }: Pick<ClientPlaneParts, 'store' | 'audit'>,
  more: Pick<Parameters<typeof createMetrics>[0], 'workers'> = {},
): Metrics {
  return createMetrics({
    build: { version: manifest.version, relay, node: process.version },
    enforcement: settings.enforcement,
    policy: () => store.state,
    audit: () => audit.state,
    ...more,
  });
}

/** Three counts: tunnels, clients that have not asked yet, and clients that were told no. The rate is for tunnels alone. */
export function limitsOf(settings: ProxySettings): Pick<Deps, 'limits' | 'waiting' | 'lingering'> {
  const {
    maxTunnels,
    maxTunnelsPerPrincipal,
    connectionsPerSecond: maxConnectionsPerSecond,
    connectionBurst: burst,
  } = settings;
  const sizes = { maxTunnels, maxTunnelsPerPrincipal, now: () => performance.now() };
  const unhurried = { ...endless, ...sizes };
  return {
    limits: createLimits({ ...sizes, maxConnectionsPerSecond, burst }),
    waiting: createLimits(unhurried),
    lingering: createLimits({ ...unhurried, ...maxLingering }),
  };
}

function running(deps: Deps, metrics: Metrics, draining: { now: boolean }): ClientPlane {
  const { table, observers, network, relay, resolver, isDraining } = deps;
  const ports: OpenPort[] = [];
  const stopAccepting = (): void => {
    draining.now = true;
    for (const port of ports) port.close();
  };
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    stopAccepting();
    table.severWhere(() => true, 'draining');
    await within(lastWordsMs, table.idle());
    table.severWhere(() => true, 'draining');
    await table.idle();
    observers.flush();
    resolver.close();
    network.close();
    relay.close();
  };
  return {
    relay: relay.name,
    table,
    metrics,
    isDraining,
    async open(places) {
      ports.push(...(await openPorts(places, deps)));
      return ports;
    },
    async drain(timeoutMs) {
      stopAccepting();
      // Who has not asked yet is told at once; who has a tunnel may finish.
      table.severWhere(({ state }) => state === 'head', 'draining');
      await within(timeoutMs, table.idle());
      await (closing ??= close());
    },
    close: async () => await (closing ??= close()),
  };
}
