// Builds the boundary of one run in the one safe order: namespace, links down, rules, proxy, links up. It starts no command.
import { rm } from 'node:fs/promises';
import { raiseFence, type FencePart } from './fence-part.ts';
import { namesOf, type RunNames } from './names.ts';
import { createLink, createNetns, keepAnswersHome, raiseLink } from './network.ts';
import { proxyPort, type Doors } from './doors.ts';
import type { RunOptions } from './options.ts';
import type { ProxyFiles } from './proxy-files.ts';
import { startProxyPart, type CompiledPolicy, type ProxyPart } from './proxy-part.ts';
import type { RunContext } from './run.ts';
import { takeSlot, type Slot } from './slot.ts';
import {
  createRunDirectory,
  netnsOf,
  thisOwner,
  writeRecord,
  type RunRecord,
  type StatePaths,
} from './state.ts';
import type { WiredPorts } from './wiring.ts';

/** What a run has of its own. */
export interface Place {
  readonly names: RunNames;
  readonly slot: Slot;
  readonly directory: string;
}

/** The record is on disk before anything is taken that it would have to give back. */
export async function takePlace(paths: StatePaths, options: RunOptions, context: RunContext): Promise<Place> {
  const names = namesOf(options.id);
  const record: RunRecord = {
    id: options.id,
    owner: thisOwner(),
    hostNetns: netnsOf('self') ?? '',
    sandboxNetns: null,
  };
  const directory = await createRunDirectory(paths, record);
  await context.resources.add({
    name: 'run directory',
    // What is left over is remembered, or no sweep could find it.
    release: async (failures = []) => {
      if (failures.length === 0) await rm(directory, { recursive: true, force: true });
    },
  });
  const slot = await takeSlot(paths, options.id);
  await context.resources.add(slot);
  const netns = await createNetns(names);
  await context.resources.add(netns);
  await writeRecord(directory, { ...record, sandboxNetns: netns.identity });
  return { names, slot, directory };
}

/** What the boundary is built from. */
export interface BoundarySpec extends Place {
  readonly doors: Doors;
  readonly wired: WiredPorts;
  readonly options: RunOptions;
  readonly policy: CompiledPolicy;
  readonly files: ProxyFiles;
}

/** Rules are in force and read back, and the proxy listens, before the link comes up; on the way down the link goes first. */
export async function buildBoundary(
  spec: BoundarySpec,
  context: RunContext,
): Promise<{ fence: FencePart; proxy: ProxyPart }> {
  const { names, slot, doors, wired, directory, files, options, policy } = spec;
  const { ports, services, serviceAt } = doors;
  const addresses = services.map(({ address }) => address);
  await context.resources.add(await keepAnswersHome(slot));
  await context.resources.add(await createLink(names, slot, addresses));
  const open = { ports, services, datagrams: wired.dns };
  const fence = await raiseFence({ names, slot, open, isLogged: options.isDropLogged });
  await context.resources.add(fence);
  await files.writePolicy(policy.text);
  const proxy = await startProxyPart(directory, {
    ...files.config,
    listen: [`${slot.proxy}:${proxyPort}`],
    principals: [{ name: options.id, source: `${slot.sandbox}/32` }],
    serviceListen: slot.proxy,
    serviceAt,
    transparent: wired.transparent.map((port) => `${slot.proxy}:${port}`),
    dnsListen: wired.dns.map((port) => `${slot.proxy}:${port}`),
    enforcement: 'fence',
  });
  await context.resources.add(proxy);
  void proxy.died.then((how) =>
    context.voice.tell({
      event: 'proxy_died',
      message: `the proxy is gone: ${how}; the sandbox has no way out any more`,
    }),
  );
  context.stop.throwIfAborted();
  await context.resources.add(await raiseLink(names));
  return { fence, proxy };
}
