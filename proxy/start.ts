// Puts the parts of a proxy together, in the order in which each may fail, and takes them apart again.
import manifest from '../package.json' with { type: 'json' };
import { startAdmin, type RunningAdmin } from './admin.ts';
import { admits } from './admission.ts';
import type { ProxySettings } from './config.ts';
import type { Stage } from './errors.ts';
import { checkHostsFile } from './hosts-file.ts';
import { holdLifeline } from './lifeline.ts';
import { createLimits } from './limits.ts';
import { createAudit, createMetrics, createObserve, type Audit, type Metrics } from './observe/index.ts';
import { watchOwnAddresses } from './own-addresses.ts';
import { dialer } from './parent.ts';
import { checkPolicyFile, openPolicyStore, type PolicyStore, type ReloadResult } from './policy-store.ts';
import { dropPrivileges } from './privileges.ts';
import { chooseDataPlane } from './data-plane.ts';
import { createResolver } from './resolve.ts';
import { openPorts, type OpenPort } from './server.ts';
import { createTunnelTable, type TunnelTable } from './tunnel-table.ts';
import type { Deps } from './types.ts';

export interface StartOptions {
  /** Hears of bugs, with their stack, and of accepts that failed: the operational log. */
  readonly onBug?: (error: unknown, stage: Stage) => void;
  /** Hears of every reload of the policy, good or bad. */
  readonly onReload?: (result: ReloadResult) => void;
  /** The parent behind `readyFd` is gone, and the proxy has been closed. */
  readonly onOrphaned?: () => void;
}

export interface RunningProxy {
  readonly listening: readonly { readonly name: string; readonly address: string; readonly port: number }[];
  readonly admin: string | null;
  readonly metrics: { readonly address: string; readonly port: number } | null;
  readonly store: PolicyStore;
  readonly table: TunnelTable;
  readonly audit: Audit;
  /** Who carries the bytes. */
  readonly relay: string;
  reload(): Promise<ReloadResult>;
  /** Takes nobody new, waits for who is there, cuts who is left after `timeoutMs` (default `drainTimeoutMs`), and closes. */
  drain(timeoutMs?: number): Promise<void>;
  /** Cuts everybody and gives everything back. */
  close(): Promise<void>;
}

/** Everything that is open, and how to give it back. */
interface Parts {
  readonly deps: Deps;
  readonly ports: readonly OpenPort[];
  readonly operator: RunningAdmin;
  readonly audit: Audit;
  readonly draining: { now: boolean };
  readonly owned: AsyncDisposableStack;
}

/**
 * Starts a proxy. Throws what is wrong with the policy, the audit, an address or the user; then nothing is left open.
 * Order: policy and audit, every socket, privileges dropped, what must stay readable read again, `ready`.
 */
export async function startProxy(settings: ProxySettings, options: StartOptions = {}): Promise<RunningProxy> {
  const parts = await assemble(settings, options);
  const running = runningProxy(parts);
  try {
    dropPrivileges(settings.user);
    if (settings.user !== null) await checkPolicyFile(settings.policy);
    if (settings.hosts !== null) checkHostsFile(settings.hosts);
    const lifeline = holdLifeline(settings.readyFd, () => {
      void within(orphanMs, running.close()).then(options.onOrphaned);
    });
    parts.owned.defer(() => lifeline.close());
  } catch (error) {
    await running.close();
    throw error;
  }
  return running;
}

async function assemble(
  settings: ProxySettings,
  { onBug = () => {}, onReload = () => {} }: StartOptions,
): Promise<Parts> {
  await using stack = new AsyncDisposableStack();
  const table = createTunnelTable();
  const ownAddresses = watchOwnAddresses(Date.now);
  const sever: Parameters<typeof openPolicyStore>[0]['sever'] = async (policy) =>
    await table.severInTurns((tunnel) => !admits(policy, tunnel, ownAddresses()), 'policy_changed');
  const policyStore = await openPolicyStore({
    path: settings.policy,
    services: settings.services,
    clock: Date.now,
    sever,
    onReload,
  });
  stack.defer(() => policyStore.close());
  const audit = createAudit(settings.audit);
  stack.defer(() => audit.close());
  const { network, relay } = chooseDataPlane(settings.relay);
  stack.defer(() => relay.close());
  stack.defer(() => network.close());
  const metrics = metricsOf(settings, relay.name, policyStore, audit);
  const resolver = createResolver({
    ...resolverLimits,
    servers: settings.resolver,
    hostsFile: settings.hosts,
    timeoutMs: settings.dnsTimeoutMs,
  });
  stack.defer(() => resolver.close());
  const observers = createObserve({ audit, metrics, onBug });
  stack.defer(() => observers.flush());
  const draining = { now: false };
  const deps: Deps = {
    settings,
    policyStore,
    resolver,
    ...limitsOf(settings),
    network,
    relay,
    table,
    observers,
    dial: dialer({ parent: settings.parent, resolvesNames: settings.parentResolvesNames, resolver }),
    ownAddresses,
    clock: Date.now,
    isDraining: () => draining.now,
  };
  const parts = { store: policyStore, table, audit, metrics, isDraining: deps.isDraining };
  const operator = await startAdmin(parts, { ...settings, onBug: (error) => onBug(error, 'accept') });
  stack.defer(async () => await operator.close());
  const ports = await openPorts(deps);
  return { deps, ports, operator, audit, draining, owned: stack.move() };
}

/** How long clients that are cut by a close may take to read why. */
const lastWordsMs = 50;

/** Closing is a matter of milliseconds; an orphan does not wait longer than this for it. */
const orphanMs = 1000;

/** How many refused clients may take their time to read why. */
const maxLingering = { maxTunnels: 4096, maxTunnelsPerPrincipal: 256 } as const;

/** An answer is kept as long as its TTL says, within these; a failure briefly. */
export const resolverLimits = {
  minTtlMs: 1000,
  maxTtlMs: 300_000,
  negativeTtlMs: 5000,
  maxEntries: 10_000,
} as const;

function metricsOf(settings: ProxySettings, relay: string, store: PolicyStore, audit: Audit): Metrics {
  return createMetrics({
    build: { version: manifest.version, relay, node: process.version },
    enforcement: settings.enforcement,
    policy: () => store.state,
    audit: () => audit.state,
    clock: Date.now,
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
  const endless = Number.MAX_SAFE_INTEGER;
  const unhurried = { ...sizes, maxConnectionsPerSecond: endless, burst: endless };
  return {
    limits: createLimits({ ...sizes, maxConnectionsPerSecond, burst }),
    waiting: createLimits(unhurried),
    lingering: createLimits({ ...unhurried, ...maxLingering }),
  };
}

function runningProxy({ deps, ports, operator, audit, draining, owned }: Parts): RunningProxy {
  const { policyStore: store, table } = deps;
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
    await owned.disposeAsync();
  };
  return {
    listening: ports.map(({ name, address, port }) => ({ name, address, port })),
    admin: operator.admin,
    metrics: operator.metrics,
    store,
    table,
    audit,
    relay: deps.relay.name,
    reload: async () => await store.reload(),
    async drain(timeoutMs = deps.settings.drainTimeoutMs) {
      stopAccepting();
      // Who has not asked yet is told at once; who has a tunnel may finish.
      table.severWhere(({ state }) => state === 'head', 'draining');
      await within(timeoutMs, table.idle());
      await (closing ??= close());
    },
    close: async () => await (closing ??= close()),
  };
}

async function within(ms: number, work: Promise<void>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, late]);
  clearTimeout(timer);
}
