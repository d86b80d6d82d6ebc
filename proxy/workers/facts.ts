// What the operator sees of several workers as one proxy: metrics, audit state, open tunnels. Asks the workers; decides nothing.
import type { AdminParts } from '../admin.ts';
import {
  type Audit,
  type AuditState,
  mergeMetrics,
  type Metrics,
  type MetricsJson,
  withoutGauges,
} from '../observe/index.ts';
import type { Board } from './board.ts';
import { readEntry } from './burial.ts';
import type { Fleet } from './fleet.ts';
import type { Member } from './member.ts';
import type { Snapshot } from './messages.ts';

/** A worker that does not answer within this is shown as it last was, in ms. */
const lookMs = 1000;

/** What workers that are gone had counted. */
export class Departed {
  dropped = 0;
  #metrics: Promise<MetricsJson> = Promise.resolve([]);

  get metrics(): Promise<MetricsJson> {
    return this.#metrics;
  }

  add({ metrics, audit }: Snapshot): void {
    this.dropped += audit.dropped;
    this.#metrics = this.#metrics.then(async (before) => await withoutGauges(before, metrics));
  }
}

/** The metrics of the control plane, and with them those of all workers, there and gone. */
export function fleetMetrics(own: Metrics, fleet: Fleet, departed: Departed): AdminParts['metrics'] {
  return {
    contentType: own.contentType,
    fence: (report) => own.fence(report),
    gate: (report) => own.gate(report),
    async text() {
      const looks = await Promise.all(
        fleet.serving.map(async (member) => ({ member, snapshot: await member.look('snapshot', lookMs) })),
      );
      // Who ended meanwhile is among the departed, and who ends from here on is not.
      const gone = departed.metrics;
      const there = looks
        .filter(({ member }) => member.isThere)
        .map(({ snapshot }) => snapshot?.metrics ?? []);
      return await mergeMetrics(await own.json(), [await gone, ...there]);
    },
  };
}

/** One state for all that write to the audit: it works when it works for everybody. */
export function fleetAudit(own: Audit, fleet: Fleet, departed: Departed): AdminParts['audit'] {
  const others = (): readonly AuditState[] =>
    fleet.serving.map(({ snapshot }) => snapshot?.audit).filter((state) => state !== undefined);
  return {
    get state() {
      const all = [own.state, ...others()];
      return {
        ok: all.every(({ ok }) => ok),
        problem: all.find(({ problem }) => problem !== null)?.problem ?? null,
        kept: all.reduce((sum, { kept }) => sum + kept, 0),
        dropped: all.reduce((sum, { dropped }) => sum + dropped, departed.dropped),
      };
    },
    dropped: (...events) => own.dropped(...events),
    async probe() {
      own.probe();
      await Promise.all(fleet.serving.map(async (member) => await member.look('probe', lookMs)));
    },
    reopen() {
      own.reopen();
      for (const member of fleet.present) void member.ask('reopen', null, lookMs).catch(() => {});
    },
  };
}

/** The tunnels of all workers; of one that does not answer, what is on the board. */
export function fleetTunnels(board: Board, fleet: Fleet): AdminParts['table'] {
  return {
    async list() {
      const lists = await Promise.all(fleet.serving.map(async (member) => await listOf(board, member)));
      return lists.flat();
    },
    get size() {
      return board.addon.held(board.handle, 0);
    },
    /** A worker that does not do it is replaced, which cuts them as well. */
    severAll(reason) {
      for (const member of fleet.present)
        void member.ask('cut', { reason }, lookMs).catch(() => member.kill('it did not cut its tunnels'));
    },
  };
}

async function listOf(board: Board, member: Member): Promise<readonly unknown[]> {
  const { worker } = member;
  try {
    const all = await member.ask('tunnels', null, lookMs);
    return all.map((tunnel) => ({ ...tunnel, worker }));
  } catch {
    return board.records(worker).flatMap(({ text, up, down }) => {
      const entry = readEntry(text);
      if (entry === undefined) return [];
      const { tunnel: id, principal, host, port, mode, policy, since: openedAt } = entry;
      const shown = { id, principal, host, port, mode, rule: null, policy, state: 'open' };
      return [{ ...shown, openedAt, up, down, worker }];
    });
  }
}
