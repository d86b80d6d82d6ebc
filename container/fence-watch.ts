// Keeps the fence of a run as planned while it runs: a table that moved is put back, and while that fails the link is down. Builds and judges no rule.
import { watchFence, type FenceReport, type FenceWatch, type WatchEvent } from '../nft/index.ts';
import type { FencePart } from './fence-part.ts';
import type { RunNames } from './names.ts';
import { lowerLink, raiseLink } from './network.ts';
import type { ProxyPart } from './proxy-part.ts';
import type { RunEvent, Voice } from './report.ts';
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
    report: tellerOf(proxy, voice),
    news: (event) => {
      if (event.event !== 'followed') voice.tell(asRunEvent(event)); // a run has no bridge to follow
    },
  });
  await resources.add({ name: 'fence watch', release: async () => await watch.stop() });
  return watch;
}

/** Tells the proxy, and the caller when the proxy stands still: one that is gone is told of elsewhere. */
function tellerOf({ admin }: ProxyPart, voice: Pick<Voice, 'tell'>): (report: FenceReport) => Promise<void> {
  let isSilent = false;
  return async (report) => {
    try {
      await admin.put('/fence', report);
      if (isSilent) voice.tell({ event: 'proxy_answers', message: 'the proxy answers again' });
      isSilent = false;
    } catch (error) {
      if (!isSilent && isTimeout(error)) {
        voice.tell({
          event: 'proxy_silent',
          message: 'the proxy does not answer; the sandbox has no way out until it does',
        });
        isSilent = true;
      }
      throw error;
    }
  };
}

/** Of AbortSignal.timeout, and of undici. */
function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name.includes('Timeout');
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
