// Keeps a run closed while its fence does not hold: the link goes down, and up again with the fence. Builds and judges no rule.
import { watchFence, type FencePart } from './fence-part.ts';
import type { RunNames } from './names.ts';
import { lowerLink, raiseLink } from './network.ts';
import type { ProxyPart } from './proxy-part.ts';
import type { RunContext } from './run.ts';

/** What is watched, and who hears of it. */
export interface WatchSpec {
  readonly names: RunNames;
  readonly fence: FencePart;
  readonly proxy: ProxyPart;
}

/** Looks at once and then every second. The proxy is told each time; the caller hears of each change. */
export async function keepWatch(
  { names, fence, proxy }: WatchSpec,
  { resources, voice }: Pick<RunContext, 'resources' | 'voice'>,
): Promise<void> {
  let wasOk = true;
  const watch = await watchFence(fence, {
    async report({ ok, problems, drops }) {
      // Lowered at every look, not at the first alone: whoever took the rules may also raise the link.
      const failure = ok && wasOk ? '' : await moveLink(names, ok);
      const isOk = ok && failure === '';
      if (wasOk && !isOk)
        voice.tell({
          event: 'fence_broken',
          message: `the fence is not as planned: ${problems.join('; ')}; ${failure || 'the link of the sandbox is down until it is'}`,
        });
      if (!wasOk && isOk)
        voice.tell({ event: 'fence_restored', message: 'the fence is as planned again, and the link is up' });
      wasOk = isOk;
      await proxy.admin.put('/fence', { ok, problems, drops }).catch(() => undefined);
    },
  });
  await resources.add(watch);
}

/** '' when it is as it should be, else what stood in the way; it is tried again at the next look. */
async function moveLink(names: RunNames, up: boolean): Promise<string> {
  try {
    await (up ? raiseLink(names) : lowerLink(names));
    return '';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
