// Gives back what a killed run left: processes, link, table, namespace, directory, slot. Touches only runs whose owner is dead.
import { readlink, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createNft, removeFence } from '../nft/index.ts';
import { backends } from './backends/index.ts';
import { clearGate } from './gate/index.ts';
import { namesOf } from './names.ts';
import { deleteLink, deleteNetns, forgetAnswers, lowerLink } from './network.ts';
import { processesIn } from './processes.ts';
import { createResources, type ReleaseFailure, type Resource } from './resource.ts';
import { slotOf, sweepSlots } from './slot.ts';
import { isAlive, listRuns, netnsOf, startTime, type RunRecord, type StatePaths } from './state.ts';

/** What a sweep did. */
export interface Sweep {
  readonly reclaimed: readonly string[];
  /** Dead runs of another network namespace that is still in use: only a run there can remove their table. */
  readonly elsewhere: readonly string[];
  readonly failures: readonly (ReleaseFailure & { readonly id: string })[];
}

/** Sweeps dead runs. Safe beside other runs and other sweeps. */
export async function sweep(paths: StatePaths): Promise<Sweep> {
  const { records, strays } = await listRuns(paths);
  const dead = records.filter((record) => !isAlive(record.owner));
  const ours = dead.filter((record) => isReachable(record));
  const failures = [];
  const claimed: string[] = [];
  for (const record of ours) {
    if (!(await claim(paths, record))) continue;
    claimed.push(record.id);
    failures.push(...(await reclaim(paths, record)));
  }
  await removeStrays(paths, strays);
  await sweepSlots(paths);
  const failed = new Set(failures.map((failure) => failure.id));
  return {
    reclaimed: claimed.filter((id) => !failed.has(id)),
    elsewhere: dead.filter((record) => !ours.includes(record)).map((record) => record.id),
    failures,
  };
}

/** The run's table is here, or it went with its namespace. */
function isReachable(record: RunRecord): boolean {
  return record.hostNetns === netnsOf('self') || processesIn(record.hostNetns).length === 0;
}

/**
 * One sweeper per dead run. The directory keeps the name taken until all is given back; whoever holds the lock looks once more,
 * as the name may have passed to a live run meanwhile.
 */
async function claim(paths: StatePaths, record: RunRecord): Promise<boolean> {
  const lock = lockOf(join(paths.runs, record.id));
  const holder = await readlink(lock).catch(() => undefined);
  if (holder !== undefined && startTime(Number(holder)) === undefined) await rm(lock, { force: true });
  const isLocked = await symlink(String(process.pid), lock).then(
    () => true,
    () => false,
  );
  if (!isLocked) return false;
  const { records } = await listRuns(paths);
  const now = records.find(({ id }) => id === record.id);
  if (now !== undefined && now.owner.start === record.owner.start && !isAlive(now.owner)) return true;
  await rm(lock, { force: true });
  return false;
}

function lockOf(directory: string): string {
  return join(directory, 'sweeper');
}

/** The same order as a run's own end: processes, link down, rules, link, namespace, directory. */
async function reclaim(
  paths: StatePaths,
  record: RunRecord,
): Promise<readonly (ReleaseFailure & { id: string })[]> {
  const names = namesOf(record.id);
  const isHere = record.hostNetns === netnsOf('self');
  const resources = createResources();
  const take = async (name: string, release: Resource['release']): Promise<void> =>
    await resources.add({ name, release });
  // What is left over is remembered, for the next sweep by whomever.
  await take('directory', async (left = []) => {
    const directory = join(paths.runs, record.id);
    await rm(left.length === 0 ? directory : lockOf(directory), { recursive: true, force: true });
  });
  await take('network namespace', async () => await deleteNetns(names));
  if (isHere) {
    const slot = await slotOf(paths, record.id);
    if (slot !== undefined) await take('route', async () => await forgetAnswers(slot.network));
    await take('link', async () => await deleteLink(names));
    await take('table', async () => await removeFence(createNft(), names.table));
    await take('launch gate', async () => await clearGate(names));
    await take('link up', async () => await lowerLink(names));
  }
  for (const backend of backends)
    await take(`backend ${backend.name}`, async () => await backend.reclaim(record));
  return (await resources.releaseAll()).map((failure) => ({ ...failure, id: record.id }));
}

/** Drafts whose maker died before it could name them, and directories without a record. */
async function removeStrays(paths: StatePaths, strays: readonly string[]): Promise<void> {
  for (const name of strays) {
    const [, pid] = /^\.draft-(\d+)-/.exec(name) ?? [];
    const isDraftInUse = pid !== undefined && startTime(Number(pid)) !== undefined;
    if (isDraftInUse) continue;
    await rm(join(paths.runs, name), { recursive: true, force: true });
  }
}
