// What a dead worker leaves: close lines for the tunnels it had, its places on the board. Runs after its process was reaped, never before.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { ProxySettings } from '../config-types.ts';
import type { Audit } from '../observe/index.ts';
import type { Board, BoardRecord } from './board.ts';
import type { LedgerEntry } from './ledger.ts';

export interface BurialParts {
  readonly board: Board;
  readonly audit: Audit;
  readonly settings: Pick<ProxySettings, 'audit' | 'run'>;
  /** ms since 1970. */
  readonly clock: () => number;
}

/** Writes what the dead worker could not; how many tunnels it had. */
export function bury(worker: number, { board, audit, settings, clock }: BurialParts): number {
  const left = board.records(worker).flatMap((record) => {
    const entry = readEntry(record.text);
    return entry === undefined ? [] : [{ record, entry }];
  });
  const unsure = left.filter(({ record }) => record.phase === 'closing').map(({ entry }) => entry.tunnel);
  const closed = unsure.length === 0 ? new Set() : closedInTail(settings.audit, new Set(unsure));
  const open = left.filter(({ entry }) => !closed.has(entry.tunnel));
  for (const { record, entry } of open) audit.closed(closeOf(entry, record, settings.run, clock()));
  board.addon.forget(board.handle, worker);
  return open.length;
}

function closeOf(entry: LedgerEntry, record: BoardRecord, run: string | null, now: number) {
  const { since, verdict, ...client } = entry;
  return {
    event: 'close',
    time: new Date(now).toISOString(),
    run,
    ...client,
    // Its decision may or may not have reached the audit.
    verdict: record.phase === 'entered' ? null : verdict,
    reason: null,
    cause: 'worker_crashed',
    address: null,
    up: record.up,
    down: record.down,
    ms: { total: Math.max(0, now - since) },
  } as const;
}

/** Undefined for what a dying worker may have scribbled. */
export function readEntry(text: string): LedgerEntry | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isEntry(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const texts: readonly (keyof LedgerEntry)[] = ['tunnel', 'peer', 'listener', 'mode', 'host', 'policy'];

function isEntry(value: unknown): value is LedgerEntry {
  return (
    typeof value === 'object' &&
    value !== null &&
    texts.every((key) => typeof Reflect.get(value, key) === 'string')
  );
}

/** A close line that was on its way is among the last. */
const tailBytes = 8_388_608;

/** Which of `tunnels` have their close line in the file. Of a stream nobody can know: none. */
function closedInTail(target: string, tunnels: ReadonlySet<string>): ReadonlySet<string> {
  const lines = target === '-' ? [] : tailOf(target).split('\n');
  const closes = lines.filter((line) => line.includes('"event":"close"'));
  return new Set([...tunnels].filter((tunnel) => closes.some((line) => line.includes(`"${tunnel}"`))));
}

function tailOf(path: string): string {
  try {
    const fd = openSync(path, 'r');
    try {
      const { size } = fstatSync(fd);
      const bytes = Buffer.alloc(Math.min(size, tailBytes));
      return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, size - bytes.length));
    } finally {
      closeSync(fd);
    }
  } catch {
    // A pipe, or out of sight since the rights were dropped.
    return '';
  }
}
