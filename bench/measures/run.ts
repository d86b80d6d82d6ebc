// One workload through one peer, with an upstream of its own, the CPU that the peer used for it, and the check that nothing was lost.
import { setTimeout as wait } from 'node:timers/promises';
import {
  type Amount,
  type ClientReport,
  runClient,
  startUpstream,
  type UpstreamReport,
  type Workload,
} from '../load/index.ts';
import type { RunningPeer } from '../peers/types.ts';
import { cpuSecondsOf } from '../processes.ts';
import type { World } from '../world.ts';
import { FailedRun } from './types.ts';

export interface Ran {
  readonly client: ClientReport;
  readonly upstream: UpstreamReport;
  /** Of the peer's processes; undefined for a peer that has none. */
  readonly cpuSeconds: number | undefined;
}

// What a proxy does after the client has left is part of the tunnel's price.
const settleMs = 100;

export async function run(
  workload: Workload,
  peer: RunningPeer,
  world: Pick<World, 'upstream'>,
  amount: Amount,
): Promise<Ran> {
  await using upstream = await startUpstream(world.upstream);
  const before = cpuOf(peer);
  const client = await runClient(workload, peer.way, amount);
  await wait(settleMs);
  const after = cpuOf(peer);
  const seen = await upstream.end();
  checkClient(client);
  checkUpstream(client, seen);
  const cpuSeconds = before === undefined || after === undefined ? undefined : after - before;
  return { client, upstream: seen, cpuSeconds };
}

/** Two workloads at once; the first goes on for as long as the second, and both are checked. Resolves with the report of the second. */
export async function runBeside(
  first: Workload,
  second: Workload,
  peer: RunningPeer,
  world: Pick<World, 'upstream'>,
  { besides, amount, pace }: { readonly besides: Amount; readonly amount: Amount; readonly pace?: number },
): Promise<ClientReport> {
  await using upstream = await startUpstream(world.upstream, pace);
  const reports = await Promise.all([
    runClient(first, peer.way, besides),
    runClient(second, peer.way, amount),
  ]);
  await wait(settleMs);
  const seen = await upstream.end();
  for (const report of reports) checkClient(report);
  checkUpstream(reports[0], seen);
  return reports[1];
}

export function cpuOf({ pid }: RunningPeer): number | undefined {
  return pid === undefined ? undefined : cpuSecondsOf(pid);
}

export function checkClient(client: ClientReport): void {
  if (client.errors > 0) throw new FailedRun(`${client.errors} errors, first: ${client.firstError}`);
  if (client.wrong > 0) throw new FailedRun(`${client.wrong} reads differ from what was sent`);
  if (client.done === 0) throw new FailedRun('nothing was done');
}

function checkUpstream({ workload, bytes }: ClientReport, seen: UpstreamReport): void {
  if (seen.wrong > 0) throw new FailedRun(`the upstream read ${seen.wrong} times what was not sent`);
  if (seen.errors > 0) throw new FailedRun(`${seen.errors} tunnels ended wrongly at the upstream`);
  const other = workload === 'down' ? seen.sourced : workload === 'up' ? seen.sunk : bytes;
  if (other !== bytes) throw new FailedRun(`the client counts ${bytes} bytes, the upstream ${other}`);
}

/** `figures` without what is undefined. */
export function known(
  figures: Readonly<Record<string, number | undefined>>,
): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Object.entries(figures).filter((entry): entry is [string, number] => entry[1] !== undefined),
  );
}
