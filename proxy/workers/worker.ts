// One worker: the data plane in a process of its own, told everything by its parent. Reads no settings, loads no file of policy, serves no operator.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Policy } from '../../policy/index.ts';
import { createDataPlane, createTunnels, type DataPlane, type Tunnels } from '../data-plane.ts';
import { createAudit } from '../observe/index.ts';
import { loadWorkersAddon } from './addon.ts';
import { boardLimits } from './board-limits.ts';
import { Board } from './board.ts';
import { answerOn } from './channel.ts';
import { type LedgerAudit, ledgerAudit } from './ledger.ts';
import type { Notes, Snapshot, StartOrder } from './messages.ts';
import { policyOfText } from './policy-text.ts';

const beatMs = 500;
const tellMs = 1000;

/** The policy of this process, and what waits to become one. */
interface PolicyHere {
  pieces: string;
  current: Policy;
  loadedAt: number;
}

interface Serving {
  readonly plane: DataPlane;
  readonly audit: LedgerAudit;
  readonly policy: PolicyHere;
  readonly tunnels: Tunnels;
  readonly order: StartOrder;
}

type Tell = <What extends keyof Notes>(what: What, value: Notes[What]) => void;

function serveParent(): void {
  const inbox = { pieces: '' };
  const { promise: started, resolve } = Promise.withResolvers<Serving>();
  const takePieces = (): string => {
    const text = inbox.pieces;
    inbox.pieces = '';
    return text;
  };
  const tell: Tell = answerOn(process, {
    piece(part) {
      inbox.pieces += part;
      return null;
    },
    async start(order) {
      const serving = await start(order, takePieces(), (what, value) => tell(what, value));
      resolve(serving);
      return null;
    },
    async enforce({ digest }) {
      const text = takePieces();
      return enforce(await started, text, digest);
    },
    snapshot: async () => await snapshotOf(await started),
    tunnels: async () => (await started).plane.table.list(),
    async probe() {
      const serving = await started;
      serving.audit.probe();
      return await snapshotOf(serving);
    },
    async reopen() {
      (await started).audit.reopen();
      return null;
    },
    async drain({ timeoutMs }) {
      return await drain(await started, timeoutMs);
    },
  });
  // The terminal tells every process of its group; only the parent knows what to do.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  // Without a parent nobody can close this door: it closes now, and every tunnel with it.
  process.on('disconnect', () => process.exit());
}

async function start(order: StartOrder, text: string, tell: Tell): Promise<Serving> {
  const { settings, worker, parent, shape, boardFd, auditFd, places, digest } = order;
  const addon = loadWorkersAddon();
  if ('problem' in addon) throw new Error(addon.problem);
  if (!addon.dieWith(parent)) process.exit();
  const board = new Board(addon, boardFd, shape);
  const audit = ledgerAudit(createAudit(settings.audit, auditFd), board, worker, Date.now);
  const tunnels = createTunnels();
  const policy = {
    pieces: '',
    current: policyOfText(text, settings.services, digest),
    loadedAt: Date.now(),
  };
  const store = storeOf(policy);
  const limits = boardLimits(board, worker, settings);
  const onBug = (error: unknown, stage: string): void => tell('bug', { error, stage });
  const plane = createDataPlane({ settings, tunnels, store, audit, limits, onBug });
  await plane.open(places);
  const serving = { plane, audit, policy, tunnels, order };
  setInterval(() => addon.beat(board.handle, worker), beatMs).unref();
  setInterval(() => {
    audit.count(plane.table.list());
    void snapshotOf(serving).then((snapshot) => tell('snapshot', snapshot));
  }, tellMs).unref();
  return serving;
}

function storeOf(policy: PolicyHere): Parameters<typeof createDataPlane>[0]['store'] {
  return {
    get current() {
      return policy.current;
    },
    get state() {
      const { current, loadedAt } = policy;
      return { digest: current.digest, loadedAt, lastAttempt: 'ok' as const, lastError: null, failures: 0 };
    },
  };
}

/** The same meaning keeps the same object: tunnels compare by it. */
function enforce({ policy, tunnels, order }: Serving, text: string, digest: string): number {
  if (digest !== policy.current.digest) policy.current = policyOfText(text, order.settings.services, digest);
  return tunnels.sever(policy.current);
}

async function snapshotOf({ plane, audit }: Serving): Promise<Snapshot> {
  return { metrics: await plane.metrics.json(), audit: audit.state };
}

async function drain(serving: Serving, timeoutMs: number): Promise<Snapshot> {
  await serving.plane.drain(timeoutMs);
  serving.audit.close();
  const last = await snapshotOf(serving);
  // The answer goes out first.
  void sleep(0).then(() => process.disconnect?.());
  return last;
}

serveParent();
