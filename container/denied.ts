// Sums up what a run was denied, out of its audit and after its end, so that nobody has to read that file to learn it. Decides nothing.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { canaryOf } from './gate/index.ts';
import { printable } from './names.ts';

/** Where in the audit file a run is: byte offsets. The file may hold earlier runs of the same name. */
export interface AuditSpan {
  readonly start: number;
  /** Where the launch gate's probes end and the command's lines begin. */
  readonly command: number;
}

/** What was denied to the command. */
export interface Denied {
  readonly total: number;
  /** The most frequent pairs of host and reason, at most five. */
  readonly most: readonly { readonly host: string; readonly reason: string; readonly count: number }[];
}

const maxShown = 5;
/** A hostile command can ask for endless names; beyond these only the total goes on. */
const maxPairs = 1000;

/** Size of the audit file now; 0 when there is none, or when it is no file that can be read again (a pipe). */
export async function auditSize(file: string): Promise<number> {
  return await stat(file).then(
    (info) => (info.isFile() ? info.size : 0),
    () => 0,
  );
}

/** Counts the denials of run `run`, without the gate's: at the launch, of clients that end only later, and when `sallyport probe` tries it again. */
export async function readDenied(file: string, run: string, span: AuditSpan): Promise<Denied> {
  const size = await auditSize(file);
  if (size === 0) return { total: 0, most: [] };
  // A smaller file is another one: it was rotated meanwhile.
  const from = size < span.command ? { start: 0, command: 0 } : span;
  const counts = new Map<string, number>();
  const ofGate = new Set<unknown>();
  const canary = canaryOf(run);
  let [total, at] = [0, from.start];
  for await (const line of createInterface({ input: createReadStream(file, { start: from.start }) })) {
    const isGate = at < from.command;
    at += Buffer.byteLength(line) + 1;
    if (!isGate && !line.includes('"deny"')) continue;
    const event = readLine(line);
    if (event.get('run') !== run) continue;
    // A denied name has none.
    const tunnel = event.get('tunnel');
    if (isGate) ofGate.add(tunnel);
    else if (
      isDenial(event) &&
      event.get('host') !== canary &&
      (tunnel === undefined || !ofGate.has(tunnel))
    ) {
      total += 1;
      addTo(counts, event);
    }
  }
  return { total, most: mostOf(counts) };
}

/** A client has one decision line a verdict, so each denial is counted once; a name that DNS denied never became a client. */
function isDenial(event: ReadonlyMap<string, unknown>): boolean {
  return event.get('event') !== 'close' && event.get('verdict') === 'deny';
}

function addTo(counts: Map<string, number>, event: ReadonlyMap<string, unknown>): void {
  const pair = `${printable(String(event.get('host')))} ${printable(String(event.get('reason')))}`;
  if (counts.size < maxPairs || counts.has(pair)) counts.set(pair, (counts.get(pair) ?? 0) + 1);
}

function mostOf(counts: ReadonlyMap<string, number>): Denied['most'] {
  return [...counts]
    .toSorted(([, one], [, other]) => other - one)
    .slice(0, maxShown)
    .map(([pair, times]) => {
      const at = pair.lastIndexOf(' ');
      return { host: pair.slice(0, at), reason: pair.slice(at + 1), count: times };
    });
}

function readLine(line: string): ReadonlyMap<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    return new Map(typeof value === 'object' && value !== null ? Object.entries(value) : []);
  } catch {
    return new Map();
  }
}

/** One line for a person: `denied 3: evil.example no_rule_matched (3); audit: FILE`. */
export function deniedText({ total, most }: Denied, audit: string): string {
  const rest = total - most.reduce((sum, { count }) => sum + count, 0);
  const parts = most.map(({ host, reason, count }) => `${host} ${reason} (${count})`);
  return `denied ${total}: ${[...parts, ...(rest > 0 ? [`${rest} more`] : [])].join(', ')}; audit: ${audit}`;
}
