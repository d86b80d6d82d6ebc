// Hands out one /28 of the address pool per run. Taking one is a single atomic step; it configures no link.
import { readdir, readlink, symlink, unlink } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { networkInterfaces } from 'node:os';
import type { Resource } from './resource.ts';
import { RunRefused } from './refusal.ts';
import type { StatePaths } from './state.ts';

/** Addresses of every sandbox: class `lateral` of the fence. */
export const pool = '10.219.0.0/16';
/** How many runs there can be at once. */
export const slotCount = 1 << 12;

/** The addresses of one run: a /28 with the proxy at .1, the sandbox at .2, and the rest for services whose port is taken at .1. */
export interface Slot {
  readonly number: number;
  readonly proxy: string;
  readonly sandbox: string;
  readonly prefixLength: 28;
  /** All of it, as a prefix. */
  readonly network: string;
  /** .3 to .14; on the link only as far as they are needed. */
  readonly services: readonly string[];
}

/** The addresses of slot `number`, 0 to 4095. */
export function slotAt(number: number): Slot {
  return {
    number,
    proxy: address(number, 1),
    sandbox: address(number, 2),
    prefixLength: 28,
    network: `${address(number, 0)}/28`,
    services: Array.from({ length: 12 }, (_, i) => address(number, i + 3)),
  };
}

function address(slot: number, host: number): string {
  const offset = slot * 16 + host;
  return `10.219.${offset >> 8}.${offset & 255}`;
}

/** Takes the lowest free slot for run `id`. A symlink is made in one step and carries its owner's name. */
export async function takeSlot(
  paths: StatePaths,
  id: string,
  inUse = localAddresses(),
): Promise<Slot & Resource> {
  for (let number = 0; number < slotCount; number++) {
    const slot = slotAt(number);
    const path = join(paths.slots, String(number));
    if ([slot.proxy, slot.sandbox, ...slot.services].some((one) => inUse.has(one))) continue;
    if (await claim(path, id))
      return {
        ...slot,
        name: `slot ${number}`,
        release: async (failures) => await leaveSlot(path, failures),
      };
  }
  throw new RunRefused(
    'boundary',
    `no free address is left in ${pool}`,
    'end other runs; `sallyport reclaim` sweeps dead ones',
  );
}

async function claim(path: string, id: string): Promise<boolean> {
  try {
    await symlink(id, path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

/** A sweep that is still to come needs to know whose addresses these were; it frees them with the run's directory. */
async function leaveSlot(path: string, failures: readonly unknown[] = []): Promise<void> {
  if (failures.length === 0) await freeSlot(path);
}

async function freeSlot(path: string): Promise<void> {
  await unlink(path).catch(() => undefined);
}

/** The slot that run `id` has; undefined when it took none. */
export async function slotOf(paths: StatePaths, id: string): Promise<Slot | undefined> {
  for (const number of await readdir(paths.slots)) {
    const holder = await readlink(join(paths.slots, number)).catch(() => undefined);
    if (holder === id) return slotAt(Number(number));
  }
  return undefined;
}

/** Frees the slots of runs that have no directory any more. A slot is taken after its directory and freed before it. */
export async function sweepSlots(paths: StatePaths): Promise<void> {
  for (const number of await readdir(paths.slots)) {
    const path = join(paths.slots, number);
    const id = await readlink(path).catch(() => undefined);
    if (id !== undefined && !existsSync(join(paths.runs, id))) await freeSlot(path);
  }
}

function localAddresses(): ReadonlySet<string> {
  return new Set(
    Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((one) => one.address)),
  );
}
