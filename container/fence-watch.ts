// Keeps the fence of a run as planned while it runs: a table that moved is put back, and while that fails the link is down. Builds and judges no rule.
import { watchFence, type FenceWatch, type WatchEvent } from '../nft/index.ts';
import type { FencePart } from './fence-part.ts';
import type { RunNames } from './names.ts';
import { lowerLink, raiseLink } from './network.ts';
import type { ProxyPart } from './proxy-part.ts';
import type { RunEvent } from './report.ts';
import type { RunContext } from './run.ts';

/** What is watched, and who hears of it. */
export interface WatchSpec {
  readonly names: RunNames;
  readonly fence: FencePart;
  readonly proxy: ProxyPart;
}

/** Looks at once, after every change of rules, and every second. The proxy is told each time; the caller hears of each change. */
export async function keepWatch(
  { names, fence, proxy }: WatchSpec,
  { resources, voice }: Pick<RunContext, 'resources' | 'voice'>,
): Promise<FenceWatch> {
  const watch = await watchFence({
    nft: fence.nft,
    spec: fence.spec,
    links: {
      close: async () => await lowerLink(names),
      open: async () => void (await raiseLink(names)),
    },
    report: async (report) => void (await proxy.admin.put('/fence', report)),
    news: (event) => {
      if (event.event !== 'followed') voice.tell(asRunEvent(event)); // a run has no bridge to follow
    },
  });
  await resources.add({ name: 'fence watch', release: async () => await watch.stop() });
  return watch;
}

function asRunEvent(event: Exclude<WatchEvent, { event: 'followed' }>): RunEvent {
  if (event.event === 'opened')
    return {
      event: 'fence_restored',
      message: 'the fence is as planned again, and the link is up',
    };
  const what = `the fence is not as planned: ${event.problems.join('; ')}`;
  return event.event === 'repaired'
    ? { event: 'fence_repaired', message: `${what}; it was put back in ${event.ms} ms, and tunnels were cut` }
    : { event: 'fence_broken', message: `${what}; the link of the sandbox is down until it is` };
}
