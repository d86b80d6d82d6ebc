// Starts a proxy of several processes: the control plane here, a data plane in each worker, a board that they share. One process is ../start.ts.
import { closeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { ProxySettings } from '../config-types.ts';
import {
  type Carrier,
  type ControlParts,
  type RunningProxy,
  startControl,
  type StartOptions,
} from '../control-plane.ts';
import { metricsOf } from '../client-plane.ts';
import { placesOf } from '../server.ts';
import { type ConnAddon, loadConnAddon } from '../conn/index.ts';
import { chooseDataPlane } from '../data-plane.ts';
import { loadWorkersAddon, type WorkersAddon } from './addon.ts';
import { Board, boardShape, createBoardMemory } from './board.ts';
import { Departed, fleetAudit, fleetMetrics, fleetTunnels } from './facts.ts';
import { Fleet, type FleetParts, type WorkerNews, type WorkersFailed } from './fleet.ts';
import { bindPorts, type BoundPorts } from './ports.ts';

/** More than one worker was asked for, and this machine cannot. */
export class WorkersUnavailable extends Error {
  override readonly name = 'WorkersUnavailable';
  readonly help = 'install a C compiler and run `npm ci`, or leave --workers out';
}

export interface WorkersOptions extends StartOptions {
  /** Hears of every worker that serves, ends or stands still. */
  readonly onWorker?: (news: WorkerNews) => void;
  /** No worker stays up. */
  readonly onFailed?: (error: WorkersFailed) => void;
}

/** The native parts that several processes need, whoever carries their bytes. */
interface Native {
  readonly addon: WorkersAddon;
  readonly conn: ConnAddon;
}

function loadNative(): Native | { readonly problem: string } {
  const [addon, conn] = [loadWorkersAddon(), loadConnAddon()];
  if ('problem' in addon) return addon;
  return 'problem' in conn ? conn : { addon, conn };
}

/** How many processes are to carry clients; `problem` says why `auto` is one. Throws WorkersUnavailable. */
export function countWorkers(
  workers: ProxySettings['workers'],
  load: typeof loadNative = loadNative,
): { readonly count: number; readonly problem: string | null } {
  const count = workers === 'auto' ? availableParallelism() : workers;
  if (count === 1) return { count, problem: null };
  const native = load();
  if (!('problem' in native)) return { count, problem: null };
  if (workers === 'auto') return { count: 1, problem: native.problem };
  throw new WorkersUnavailable(
    `${count} workers need the native part, which cannot be used: ${native.problem}`,
  );
}

/** Like startProxy(), with `count` workers. */
export async function startWorkers(
  settings: ProxySettings,
  count: number,
  options: WorkersOptions = {},
): Promise<RunningProxy> {
  const native = loadNative();
  if ('problem' in native) throw new WorkersUnavailable(native.problem);
  const fleet: { made?: Fleet } = {};
  return await startControl(
    settings,
    options,
    async (policy) => (await fleet.made?.enforce(policy)) ?? 0,
    (parts) => {
      const carrier = carrierOf({ ...parts, settings, options, ...native, count });
      fleet.made = carrier.fleet;
      return carrier;
    },
  );
}

interface Parts extends ControlParts, Native {
  readonly settings: ProxySettings;
  readonly options: WorkersOptions;
  readonly count: number;
}

function carrierOf(parts: Parts): Carrier & { readonly fleet: Fleet } {
  const { settings, store, count, addon, conn, audit: own } = parts;
  const shape = boardShape(count, settings);
  const boardFd = createBoardMemory(addon, shape);
  const board = new Board(addon, boardFd, shape);
  const relay = relayName(settings);
  const bound: { ports?: BoundPorts } = {};
  const departed = new Departed();
  const fleet = new Fleet({ ...fleetParts(parts, bound, departed), board, boardFd });
  const audit = fleetAudit(own, fleet, departed);
  const workers = (): { states: Fleet['states']; restarts: number } => fleet;
  const metrics = metricsOf(
    settings,
    relay,
    {
      store,
      audit: {
        ...own,
        get state() {
          return audit.state;
        },
      },
    },
    { workers },
  );
  const draining = { now: false };
  const stop = async (timeoutMs: number): Promise<void> => {
    draining.now = true;
    bound.ports?.close();
    await fleet.drain(timeoutMs);
  };
  let closing: Promise<void> | undefined;
  return {
    fleet,
    relay,
    audit,
    metrics: fleetMetrics(metrics, fleet, departed),
    table: fleetTunnels(board, fleet),
    isDraining: () => draining.now,
    workers: () => ({ ready: fleet.states.ready }),
    async open() {
      bound.ports = bindPorts(conn, placesOf(settings, store.current), count, settings);
      return bound.ports.ports;
    },
    serve: async () => await fleet.start(),
    drain: stop,
    async close() {
      await (closing ??= stop(0).then(() => closeSync(boardFd)));
    },
  };
}

function fleetParts(
  { settings, store, audit, options }: Parts,
  bound: { readonly ports?: BoundPorts },
  departed: Departed,
): Omit<FleetParts, 'board' | 'boardFd'> {
  const { onBug = () => {}, onWorker = () => {}, onFailed = () => {} } = options;
  return {
    settings,
    audit,
    policy: () => store.current,
    placesOf: (worker) => bound.ports?.placesOf(worker) ?? [],
    onBug: ({ error, stage }) => onBug(error, stage),
    onNews: onWorker,
    onLast: (snapshot) => departed.add(snapshot),
    onFailed,
  };
}

/** Which relay the workers will choose. Throws RelayUnavailable before there are any. */
function relayName(settings: ProxySettings): string {
  const { network, relay } = chooseDataPlane(settings.relay);
  network.close();
  relay.close();
  return relay.name;
}
