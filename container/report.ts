// What a run tells its caller on stderr: events as they happen, and with --json one object at the end. stdout is the command's alone.
import type { Denied } from './denied.ts';
import type { GateRecord } from './gate/index.ts';
import { RunRefused } from './refusal.ts';

/** Why a run ended. */
export type Ending = 'exited' | 'timeout' | 'interrupted' | 'refused';

/** The object that --json prints as the last line of stderr. */
export interface RunReport {
  /** Null when the flags could not be read. */
  readonly run: string | null;
  /** Exit status of `sallyport run`. */
  readonly status: number;
  readonly ended: Ending;
  /** One sentence when it did not end by itself. */
  readonly message: string | null;
  /** What to do about it; null when there is nothing to do. */
  readonly help: string | null;
  /** What held the command; null when none was started. */
  readonly enforcement: 'fence' | 'env' | null;
  /** Digest of the policy at the start; null when there was none. */
  readonly policy: string | null;
  /** Audit file; it stays after the run. Null when the flags could not be read. */
  readonly audit: string | null;
  /** Seconds from the call to the end, and to the command's first instruction. */
  readonly seconds: number;
  readonly startSeconds: number | null;
  /** Packets of the command that the fence dropped, by class. */
  readonly drops: Readonly<Record<string, number>>;
  /** What the proxy denied to the command. */
  readonly denied: Denied;
  /** The record of the launch gate; null when there was none that passed. docs/gate.md describes it. */
  readonly gate: GateRecord | null;
  /** What was noticed on the way: a dead or silent proxy, a broken fence, a part that could not be given back. */
  readonly events: readonly RunEvent[];
}

/** Something worth a line. */
export interface RunEvent {
  readonly event:
    | 'swept'
    | 'env_only'
    | 'workspace'
    | 'started'
    | 'timeout'
    | 'interrupted'
    | 'proxy_died'
    | 'proxy_silent'
    | 'proxy_answers'
    | 'fence_repaired'
    | 'fence_broken'
    | 'fence_restored'
    | 'drop_log_ended'
    | 'policy_reloaded'
    | 'policy_not_reloaded'
    | 'cleanup_failed';
  readonly message: string;
}

/** Where a run's news goes. */
export interface Voice {
  tell(event: RunEvent): void;
  readonly events: readonly RunEvent[];
}

/** Writes each event as a line at once, unless everything is to come as one JSON object. */
export function createVoice(isJson: boolean, write: (line: string) => void): Voice {
  const events: RunEvent[] = [];
  return {
    events,
    tell(event) {
      events.push(event);
      if (!isJson) write(`sallyport: ${event.message}\n`);
    },
  };
}

/** The report on a run that did not start, because of `error`. */
export function refusedReport(error: unknown, seconds: number, events: readonly RunEvent[]): RunReport {
  return {
    run: null,
    status: statusOf(error),
    ended: 'refused',
    message: messageOf(error),
    help: helpOf(error),
    enforcement: null,
    policy: null,
    audit: null,
    seconds,
    startSeconds: null,
    drops: {},
    denied: { total: 0, most: [] },
    gate: null,
    events,
  };
}

/** An error in the house form: what is wrong, then what to do. */
export function errorText(error: unknown): string {
  const help = helpOf(error);
  return `sallyport: ${messageOf(error)}\n${help === null ? '' : `help: ${help}\n`}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function helpOf(error: unknown): string | null {
  return error instanceof Error && 'help' in error ? String(error.help) : null;
}

/** The exit status that stands for an error: its own for a refusal, 69 for anything else, as then the boundary is in doubt. */
export function statusOf(error: unknown): number {
  return error instanceof RunRefused ? error.exitCode : 69;
}
