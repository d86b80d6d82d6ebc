// Carries what the kernel tells of a run's dropped packets to its proxy, which writes the audit. A help to whoever reads it later: when it fails, the
// fence stands and the run goes on.
import { setTimeout as delay } from 'node:timers/promises';
import { listenForDrops, type DropListener, type DropLog, type DroppedPacket } from '../nft/index.ts';
import type { RunNames } from './names.ts';
import type { ProxyPart } from './proxy-part.ts';
import { RunRefused } from './refusal.ts';
import type { RunContext } from './run.ts';
import type { Slot } from './slot.ts';

/** Groups from here on, one for each slot: somebody else's are usually small numbers. */
const firstGroup = 16_384;
const perSecond = 10;
const againMs = 1000;
/** Packets that wait for the proxy, and that go to it at once. */
const [maxWaiting, maxAtOnce] = [1000, 100];

/** Where the fence of that slot tells of its drops. */
export function dropLogOf({ number }: Pick<Slot, 'number'>): DropLog {
  return { group: firstGroup + number, perSecond };
}

/** Whose drops, and who writes them. */
export interface DropLogSpec {
  readonly names: RunNames;
  readonly slot: Slot;
  readonly proxy: Pick<ProxyPart, 'admin'>;
}

/** Listens until it is released, and again when the listener dies. Throws RunRefused (boundary) when it cannot even begin: it was asked for. */
export async function keepDropLog(
  { names, slot, proxy }: DropLogSpec,
  { resources, voice }: Pick<RunContext, 'resources' | 'voice'>,
): Promise<void> {
  const post = createPost(names.id, proxy);
  const state: { isOver: boolean; listener: DropListener | undefined } = {
    isOver: false,
    listener: undefined,
  };
  const listen = async (): Promise<DropListener> =>
    await listenForDrops({ log: dropLogOf(slot), onDrops: post.add, onEnd: (why) => void again(why) });
  const again = async (why: string): Promise<void> => {
    state.listener = undefined;
    const message = `nobody listens to dropped packets (${why}); they are dropped and counted as before`;
    if (!state.isOver) voice.tell({ event: 'drop_log_ended', message });
    while (!state.isOver && state.listener === undefined) {
      await delay(againMs, undefined, { ref: false });
      if (!state.isOver) state.listener = await listen().catch(() => undefined);
    }
    if (state.isOver) await state.listener?.stop();
  };
  state.listener = await listen().catch((cause: unknown) => {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new RunRefused(
      'boundary',
      `dropped packets cannot be logged: ${problem}`,
      'run without --log-drops',
      {
        cause,
      },
    );
  });
  await resources.add({
    name: 'drop log',
    release: async () => {
      state.isOver = true;
      await state.listener?.stop();
      await post.done();
    },
  });
}

/** Sends in order, a part at a time; what comes too fast for the proxy is lost. */
function createPost(
  id: string,
  { admin }: Pick<ProxyPart, 'admin'>,
): { readonly add: (packets: readonly DroppedPacket[]) => void; done(): Promise<void> } {
  let waiting: readonly DroppedPacket[] = [];
  let busy: Promise<void> | undefined;
  const send = async (): Promise<void> => {
    while (waiting.length > 0) {
      const drops = waiting.slice(0, maxAtOnce);
      waiting = waiting.slice(maxAtOnce);
      await admin.post('/drops', { run: id, principal: id, drops }).catch(() => undefined);
    }
    busy = undefined;
  };
  return {
    add(packets) {
      waiting = [...waiting, ...packets].slice(0, maxWaiting);
      busy ??= send();
    },
    done: async () => await busy,
  };
}
