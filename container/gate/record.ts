// The signed-off record of one gate: what was tried, against which policy and rules, by which versions, and a digest over all of it.
import { createHash } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import manifest from '../../package.json' with { type: 'json' };
import { tool } from '../exec.ts';
import { tally, type ProbeResult } from './result.ts';

/** As written; docs/gate.md describes it, container/gate/record.schema.json is its schema. */
export interface GateRecord {
  readonly v: 1;
  readonly run: string;
  /** Why the gate was passed through: before the command, or asked for while it runs. */
  readonly occasion: 'launch' | 'probe';
  /** When it was done, RFC 3339 in UTC. */
  readonly time: string;
  readonly seconds: number;
  readonly result: 'passed' | 'failed';
  readonly probes: readonly ProbeResult[];
  /** Digest of the policy in force. */
  readonly policy: string;
  /** Digest of the fence as the kernel held it after the last probe. */
  readonly ruleset: string;
  readonly versions: Readonly<Record<'sallyport' | 'node' | 'nft' | 'kernel', string>>;
  /** SHA-256 in hex over the canonical JSON of everything else. */
  readonly digest: string;
}

/** What the record is made of. */
export type Unsigned = Pick<
  GateRecord,
  'run' | 'occasion' | 'time' | 'seconds' | 'probes' | 'policy' | 'ruleset'
>;

/** Completes and signs off. */
export async function makeRecord(known: Unsigned): Promise<GateRecord> {
  const { failed } = tally(known.probes);
  const versions = {
    sallyport: manifest.version,
    node: process.version,
    nft: /v[\d.]+/.exec(await tool('nft', ['--version']))?.[0] ?? 'unknown',
    kernel: release(),
  };
  const body = { v: 1, ...known, result: failed === 0 ? 'passed' : 'failed', versions } as const;
  return { ...body, digest: digestOf(body) };
}

/** The digest of a record without the one it carries: equal to it when nobody has changed a word. */
export function digestOf(record: Omit<GateRecord, 'digest'> | GateRecord): string {
  const { digest: _digest, ...body } = { digest: '', ...record };
  return createHash('sha256').update(canonical(body)).digest('hex');
}

/** JSON with sorted keys and no spaces, as RFC 8785 has it for texts, whole numbers and lists. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, one]) => `${JSON.stringify(key)}:${canonical(one)}`).join(',')}}`;
}

/** Puts the record into `file` in one step. */
export async function writeRecord(file: string, record: GateRecord): Promise<void> {
  const draft = `${file}.draft`;
  // Made anew: a name that somebody has put there first must not lead elsewhere.
  await rm(draft, { force: true });
  await writeFile(draft, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' });
  await rename(draft, file);
}
