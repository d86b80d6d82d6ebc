// What every proxy has once, however many processes carry its clients: policy, audit, operator's sockets, privileges, lifeline.
// Carries no client itself: a Carrier does.
import type { Policy } from '../policy/index.ts';
import { type AdminParts, type RunningAdmin, startAdmin } from './admin.ts';
import type { ProxySettings } from './config.ts';
import { checkHostsFile } from './hosts-file.ts';
import { holdLifeline } from './lifeline.ts';
import { type Audit, createAudit } from './observe/index.ts';
import { checkPolicyFile, openPolicyStore, type PolicyStore, type ReloadResult } from './policy-store.ts';
import { warmHttpAgent } from './listeners/index.ts';
import { dropPrivileges } from './privileges.ts';
import { unservedSince } from './unserved.ts';
import { within } from './within.ts';

export interface StartOptions {
  /** Hears of bugs, with their stack, and of accepts that failed: the operational log. */
  readonly onBug?: (error: unknown, stage: string) => void;
  /** Hears of every reload of the policy, good or bad, and of what the one in force allows without a port for it. */
  readonly onReload?: (result: ReloadResult, unserved: readonly string[]) => void;
  /** The parent behind `readyFd` is gone, and the proxy has been closed. */
  readonly onOrphaned?: () => void;
}

export interface Port {
  readonly name: string;
  readonly address: string;
  readonly port: number;
}

export interface RunningProxy {
  readonly listening: readonly Port[];
  readonly admin: string | null;
  readonly metrics: { readonly address: string; readonly port: number } | null;
  readonly store: PolicyStore;
  readonly table: AdminParts['table'];
  readonly audit: AdminParts['audit'];
  /** Who carries the bytes. */
  readonly relay: string;
  reload(): Promise<ReloadResult>;
  /** Takes nobody new, waits for who is there, cuts who is left after `timeoutMs` (default `drainTimeoutMs`), and closes. */
  drain(timeoutMs?: number): Promise<void>;
  /** Cuts everybody and gives everything back. */
  close(): Promise<void>;
}

/** Who carries the clients: this process, or several others. */
export interface Carrier extends Omit<AdminParts, 'store' | 'unserved'> {
  readonly relay: string;
  /** Opens every port, with whatever rights that needs. */
  open(): Promise<readonly Port[]>;
  /** Settles once clients are served, after the rights were given up. */
  serve(): Promise<void>;
  drain(timeoutMs: number): Promise<void>;
  close(): Promise<void>;
}

/** What is there before the carrier is. */
export interface ControlParts {
  readonly store: PolicyStore;
  readonly audit: Audit;
}

/** An orphan does not wait longer than this for its close, in ms. */
const orphanMs = 1000;

/**
 * Starts what a proxy has once, and the carrier that `carry` makes of it; `sever` cuts what a policy would not admit. Throws what is
 * wrong; then nothing is left open.
 */
export async function startControl(
  settings: ProxySettings,
  options: StartOptions,
  sever: (policy: Policy) => number | Promise<number>,
  carry: (parts: ControlParts) => Carrier,
): Promise<RunningProxy> {
  const { onBug = () => {}, onReload = () => {} } = options;
  await using stack = new AsyncDisposableStack();
  const { policy: path, services } = settings;
  const told = (result: ReloadResult): void => onReload(result, result.ok ? unserved(store.current) : []);
  const store = await openPolicyStore({ path, services, clock: Date.now, sever, onReload: told });
  stack.defer(() => store.close());
  const unserved = unservedSince(settings, store.current);
  const audit = createAudit(settings.audit);
  stack.defer(() => audit.close());
  const carrier = carry({ store, audit });
  // Once the operator's sockets are open, they close after the carrier's last word.
  const operating = new AsyncDisposableStack();
  stack.defer(async () => await operating.disposeAsync());
  stack.defer(async () => await carrier.close());
  const operator = await startAdmin(
    { store, unserved: () => unserved(store.current), ...adminParts(carrier) },
    { ...settings, onBug: (error) => onBug(error, 'accept') },
  );
  operating.defer(async () => await operator.close());
  const ports = await carrier.open();
  const owned = stack.move();
  const proxy = runningProxy({ settings, store, carrier, operator, ports, owned });
  try {
    await settle(settings, carrier);
    const lifeline = holdLifeline(settings.readyFd, () => {
      void within(orphanMs, proxy.close()).then(options.onOrphaned);
    });
    owned.defer(() => lifeline.close());
  } catch (error) {
    await proxy.close();
    throw error;
  }
  return proxy;
}

function adminParts({
  table,
  audit,
  metrics,
  isDraining,
  workers,
}: Carrier): Omit<AdminParts, 'store' | 'unserved'> {
  return { table, audit, metrics, isDraining, ...(workers && { workers }) };
}

/** Gives up what only the start needed, and sees whether it was too much. */
async function settle(settings: ProxySettings, carrier: Carrier): Promise<void> {
  // Whoever has given up root may not be let into this checkout any more.
  if (settings.user !== null) await warmHttpAgent();
  dropPrivileges(settings.user);
  if (settings.user !== null) await checkPolicyFile(settings.policy);
  if (settings.hosts !== null) checkHostsFile(settings.hosts);
  await carrier.serve();
}

interface Parts extends Pick<RunningProxy, 'store'> {
  readonly settings: ProxySettings;
  readonly carrier: Carrier;
  readonly operator: RunningAdmin;
  readonly ports: readonly Port[];
  readonly owned: AsyncDisposableStack;
}

function runningProxy({ settings, store, carrier, operator, ports, owned }: Parts): RunningProxy {
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => await (closing ??= owned.disposeAsync());
  return {
    listening: ports.map(({ name, address, port }) => ({ name, address, port })),
    admin: operator.admin,
    metrics: operator.metrics,
    store,
    table: carrier.table,
    audit: carrier.audit,
    relay: carrier.relay,
    reload: async () => await store.reload(),
    async drain(timeoutMs = settings.drainTimeoutMs) {
      await carrier.drain(timeoutMs);
      await close();
    },
    close,
  };
}
