// `sallyport fence watch`: runs the watch until it is told to stop, prints what happens, and tells a proxy. Decides nothing.
import { once } from 'node:events';
import { moveLinks } from './link.ts';
import { startMonitor } from './monitor.ts';
import { linksOf, type FenceSpec } from './spec.ts';
import { tellProxy } from './tell.ts';
import type { WatchedNft } from './transaction.ts';
import { watchFence } from './watch.ts';
import type { FenceReport, WatchEvent } from './watch-look.ts';

export interface WatchCommand {
  readonly nft: WatchedNft;
  /** Who is plugged into the bridges of `spec` at this moment; what can be done for them at once has been. */
  readonly members: () => Promise<FenceSpec>;
  readonly spec: FenceSpec;
  /** Admin socket of the proxy that serves these sandboxes. */
  readonly admin: string | undefined;
  readonly isJson: boolean;
  readonly out: (text: string) => void;
  readonly stop: AbortSignal;
}

/** Resolves once `stop` is aborted. The fence stays as it is then. */
export async function runWatch({
  nft,
  members,
  spec,
  admin,
  isJson,
  out,
  stop,
}: WatchCommand): Promise<void> {
  const names = linksOf(spec);
  const say = (event: object, words: string): void => out(isJson ? JSON.stringify(event) : words);
  const watch = await watchFence({
    nft,
    spec,
    members,
    links: {
      close: async () => await moveLinks(names, 'down'),
      open: async () => await moveLinks(names, 'up'),
    },
    report: async (report: FenceReport) => {
      if (admin !== undefined) await tellProxy(admin, report);
    },
    news: (event) => say(event, wordsFor(event, spec.table)),
  });
  // A new member is fenced as it is plugged in, not a second later.
  const plugs =
    spec.networks === undefined
      ? undefined
      : startMonitor([['ip', 'monitor', 'link']], watch.soon, () => undefined);
  say(
    { event: 'watching', table: spec.table },
    `watching table inet ${spec.table} around ${names.join(', ')}`,
  );
  if (!stop.aborted) await once(stop, 'abort');
  plugs?.stop();
  await watch.stop();
}

function wordsFor(event: WatchEvent, table: string): string {
  if (event.event === 'opened') return `table inet ${table} holds again; the links are up`;
  if (event.event === 'followed')
    return `table inet ${table} follows its bridges: ${event.ports.join(', ') || 'nobody is plugged in'}`;
  const what = `table inet ${table} was not as planned: ${event.problems.join('; ')}`;
  return event.event === 'repaired'
    ? `${what}; put back in ${event.ms} ms`
    : `${what}; the links are down until it is`;
}
