// One worker: the data plane in a process of its own, told everything by its parent. Reads no settings, loads no file of policy, serves no operator.
import { setTimeout as sleep } from 'node:timers/promises';
import { openImage, type Policy, type PolicyImage } from '../../policy/index.ts';
import { createClientPlane, createTunnels, type ClientPlane, type Tunnels } from '../client-plane.ts';
import { createAudit } from '../observe/index.ts';
import { loadWorkersAddon } from './addon.ts';
import { boardLimits } from './board-limits.ts';
import { Board } from './board.ts';
import { answerOn, type Tell } from './channel.ts';
import { type LedgerAudit, ledgerAudit } from './ledger.ts';
import type { Snapshot, StartOrder } from './messages.ts';

const beatMs = 500;
const tellMs = 1000;

/** The policy of this process. */
interface PolicyHere {
  current: Policy;
  readonly loadedAt: number;
  /** The same moment for performance.now. */
  readonly since: number;
}

interface Serving {
  readonly plane: ClientPlane;
  readonly audit: LedgerAudit;
  readonly policy: PolicyHere;
  readonly tunnels: Tunnels;
  readonly order: StartOrder;
}

function serveParent(): void {
  const inbox: Uint8Array[] = [];
  const { promise: started, resolve } = Promise.withResolvers<Serving>();
  const takeText = (): Uint8Array => Buffer.concat(inbox.splice(0));
  const tell: Tell = answerOn(process, {
    piece(part) {
      inbox.push(part);
      return null;
    },
    async start(order) {
      const serving = await start(order, takeText(), (...note) => tell(...note));
      resolve(serving);
      return null;
    },
    async enforce(head) {
      const text = takeText();
      return await enforce(await started, { text, ...head });
    },
    snapshot: async () => await snapshotOf(await started),
    cut: async ({ reason }) => (await started).plane.table.severAll(reason),
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

async function start(order: StartOrder, text: Uint8Array, tell: Tell): Promise<Serving> {
  const { settings, worker, parent, shape, boardFd, auditFd, places, policy: head } = order;
  const addon = loadWorkersAddon();
  if ('problem' in addon) throw new Error(addon.problem);
  if (!addon.dieWith(parent)) process.exit();
  const board = new Board(addon, boardFd, shape);
  const audit = ledgerAudit(createAudit(settings.audit, auditFd), board, worker, Date.now);
  const tunnels = createTunnels();
  const current = await openImage({ text, ...head });
  const policy = { current, loadedAt: Date.now(), since: performance.now() };
  const store = storeOf(policy);
  const limits = boardLimits(board, worker, settings);
  const onBug = (error: unknown, stage: string): void => tell('bug', { error, stage });
  const plane = createClientPlane({ settings, tunnels, store, audit, limits, onBug });
  await plane.open(places);
  const serving = { plane, audit, policy, tunnels, order };
  setInterval(() => addon.beat(board.handle, worker), beatMs).unref();
  tellRegularly(serving, tell);
  return serving;
}

/** A parent that does not read for a while finds one message, not all that there could have been. */
function tellRegularly(serving: Serving, tell: Tell): void {
  const under = { way: false };
  setInterval(() => {
    serving.audit.count(serving.plane.table.list());
    if (under.way) return;
    under.way = true;
    void snapshotOf(serving).then((snapshot) =>
      tell('snapshot', snapshot, () => {
        under.way = false;
      }),
    );
  }, tellMs).unref();
}

function storeOf(policy: PolicyHere): Parameters<typeof createClientPlane>[0]['store'] {
  return {
    get current() {
      return policy.current;
    },
    get state() {
      const { current, loadedAt, since } = policy;
      const ageMs = performance.now() - since;
      const good = { lastAttempt: 'ok', lastError: null, failures: 0 } as const;
      return { digest: current.digest, loadedAt, ageMs, ...good };
    },
  };
}

/** The same meaning keeps the same object: tunnels compare by it. */
async function enforce({ policy, tunnels }: Serving, image: PolicyImage): Promise<number> {
  if (image.digest !== policy.current.digest) policy.current = await openImage(image);
  return await tunnels.sever(policy.current);
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
