// One proxy as one process: which signal does what, and with which status it ends. Knows no flags and makes no log.
import { AdminUnavailable } from './admin-socket.ts';
import { AuditUnavailable } from './observe/index.ts';
import { RelayUnavailable } from './data-plane.ts';
import type { RunningProxy } from './start.ts';
import { WorkersFailed, WorkersUnavailable } from './workers/index.ts';

/** Ends: 0 drained, 2 bad use, settings or policy, 69 this machine cannot (address taken, audit, socket or relay not to be had), 70 a bug. */
export const exitCodes = { drained: 0, usage: 2, cannot: 69, bug: 70 } as const;

/** Where the process says what it does. */
export interface Journal {
  info(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** SIGHUP reloads. The first SIGTERM or SIGINT drains and then ends; the second ends at once, with 128 and its number. */
export function obeySignals(
  starting: Promise<RunningProxy>,
  journal: Journal,
  exit: (status: number) => void,
): void {
  const ending = { now: false };
  const end = (number: number): void => {
    if (ending.now) exit(128 + number);
    ending.now = true;
    void drain(starting, journal, exit);
  };
  process.on('SIGTERM', () => end(15)).on('SIGINT', () => end(2));
  process.on('SIGHUP', () => void reload(starting));
}

async function drain(
  starting: Promise<RunningProxy>,
  journal: Journal,
  exit: (status: number) => void,
): Promise<void> {
  const proxy = await started(starting);
  if (proxy === undefined) return;
  try {
    const drained = proxy.drain();
    journal.info({ open: proxy.table.size }, 'draining; a second signal ends at once');
    await drained;
    exit(exitCodes.drained);
  } catch (error) {
    journal.error({ err: error }, 'bug: draining failed');
    exit(exitCodes.bug);
  }
}

async function reload(starting: Promise<RunningProxy>): Promise<void> {
  const proxy = await started(starting);
  if (proxy === undefined) return;
  proxy.audit.reopen();
  await proxy.reload();
}

/** A start that failed tells so and ends the process by itself. */
async function started(starting: Promise<RunningProxy>): Promise<RunningProxy | undefined> {
  return await starting.catch(() => undefined);
}

/** The status for a proxy that did not start. What this machine cannot do is told from what was asked wrongly. */
export function statusOf(error: unknown): number {
  if (error instanceof WorkersFailed) return exitCodes.bug;
  const isMachine =
    error instanceof AuditUnavailable ||
    error instanceof AdminUnavailable ||
    error instanceof RelayUnavailable ||
    error instanceof WorkersUnavailable ||
    isListenError(error);
  return isMachine ? exitCodes.cannot : exitCodes.usage;
}

function isListenError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('syscall' in error && (error.syscall === 'listen' || error.syscall === 'bind')) return true;
  return isListenError(error.cause);
}

/** Message and help of an error, for a person. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return `error: ${String(error)}\n`;
  const help = 'help' in error && !error.message.includes('help: ') ? `help: ${String(error.help)}\n` : '';
  return `error: ${error.message}\n${help}`;
}
