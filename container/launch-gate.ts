// The gate of one run: passes through it, keeps its record with the run and beside the audit, and tells the proxy's metrics. Judges nothing.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FencePart } from './fence-part.ts';
import {
  makeRecord,
  tally,
  tryGate,
  writeRecord,
  type Doorway,
  type GateRecord,
  type Place,
} from './gate/index.ts';
import type { WiredPorts } from './wiring.ts';
import type { ProxyPart } from './proxy-part.ts';

/** A boundary that stands, with what is in force in it. */
export interface GateTask {
  readonly place: Place;
  readonly doorway: Doorway;
  readonly fence: Pick<FencePart, 'digest'>;
  /** Who counts the probes. */
  readonly admin: Pick<ProxyPart['admin'], 'put'>;
  /** Digest of the policy in force. */
  readonly policy: string;
  readonly audit: string;
  readonly occasion: GateRecord['occasion'];
}

/** Where it stays after the run: beside the audit. */
export function lastingRecordFile(audit: string): string {
  return `${audit.replace(/\.jsonl$/, '')}.gate.json`;
}

/** Tries every probe and records it, whatever came out. */
export async function recordGate(task: GateTask): Promise<GateRecord> {
  const { place, doorway, fence, occasion } = task;
  const start = performance.now();
  const probes = await tryGate({ ...place, doorway, isQuiet: occasion === 'launch' });
  const record = await makeRecord({
    run: place.names.id,
    occasion,
    time: new Date().toISOString(),
    seconds: Math.round(performance.now() - start) / 1000,
    probes,
    policy: task.policy,
    ruleset: await fence.digest(),
  });
  for (const file of [join(place.directory, 'gate.json'), lastingRecordFile(task.audit)])
    await writeRecord(file, record);
  const time = Date.parse(record.time) / 1000;
  await task.admin.put('/gate', { ...tally(probes), time }).catch(() => undefined);
  return record;
}

/** What `sallyport probe` must know of a live run to look at it again. */
export interface BoundaryNote {
  readonly slot: number;
  readonly ports: readonly number[];
  readonly services: Place['services'];
  readonly wired: WiredPorts;
  readonly audit: string;
}

/** Leaves it with the run. */
export async function leaveNote(directory: string, note: BoundaryNote): Promise<void> {
  await writeFile(noteFile(directory), `${JSON.stringify(note)}\n`, { mode: 0o600 });
}

/** Reads it; undefined when there is none or it is not whole. */
export async function readNote(directory: string): Promise<BoundaryNote | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(noteFile(directory), 'utf8'));
    return isNote(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isNote(value: unknown): value is BoundaryNote {
  if (typeof value !== 'object' || value === null) return false;
  if (!('slot' in value && Number.isInteger(value.slot))) return false;
  if (!('audit' in value && typeof value.audit === 'string')) return false;
  if (!('services' in value && Array.isArray(value.services) && value.services.every(isOpen))) return false;
  if (!('ports' in value && isPorts(value.ports))) return false;
  const wired = 'wired' in value ? value.wired : undefined;
  if (typeof wired !== 'object' || wired === null) return false;
  return 'dns' in wired && isPorts(wired.dns) && 'transparent' in wired && isPorts(wired.transparent);
}

function isOpen(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return 'address' in value && typeof value.address === 'string' && 'ports' in value && isPorts(value.ports);
}

function isPorts(value: unknown): boolean {
  return Array.isArray(value) && value.every(Number.isInteger);
}

function noteFile(directory: string): string {
  return join(directory, 'boundary.json');
}
