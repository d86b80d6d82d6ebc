// What a way to run a command must be able to do. It joins a network that is ready; it never makes one.
import type { RunRecord } from '../state.ts';

/** Whether a backend can work on this machine. */
export type Availability =
  | { readonly ok: true }
  | { readonly ok: false; readonly problem: string; readonly help: string };

/** A line of the sandbox's hosts file. */
export interface HostAlias {
  readonly address: string;
  readonly names: readonly string[];
}

/** A directory that was checked. What lies at `path` later may be another: `identity` (`device:inode`) tells. */
export interface Workspace {
  readonly path: string;
  readonly identity: string;
}

/** One command to start. */
export interface RunSpec {
  readonly id: string;
  /** Path of the network namespace to join. */
  readonly netnsPath: string;
  /** The run's directory; the backend may add to it, and it goes with the run. */
  readonly directory: string;
  readonly command: readonly [string, ...string[]];
  readonly environment: ReadonlyMap<string, string>;
  readonly hosts: readonly HostAlias[];
  /** Address that answers DNS; null: nobody does, and no name is looked up. */
  readonly resolver: string | null;
  /** Host directory to be readable at /run/sallyport/policy; null: nothing there. */
  readonly told: string | null;
  /** Host directory to be writable at /workspace; null: an empty one that lives as long as the run. */
  readonly workspace: Workspace | null;
  readonly uid: number;
  readonly gid: number;
}

/** How a command ended. */
export interface Ended {
  /** As a shell reports it: the exit status, or 128 + the signal's number. */
  readonly status: number;
}

/** A command behind the fence. */
export interface RunningCommand {
  readonly ended: Promise<Ended>;
  /** Lets the command begin. Resolves when the entry guard has passed it; rejects when it ended before. */
  begin(): Promise<void>;
  /** Asks the command to end (TERM), and makes it end after `graceMs`. Resolves when nothing of it is left. */
  terminate(graceMs: number): Promise<void>;
}

/** A way to run a command in a prepared network namespace. */
export interface Backend {
  readonly name: string;
  available(): Promise<Availability>;
  /** Builds everything but holds the command back until `begin`. */
  start(spec: RunSpec): Promise<RunningCommand>;
  /** Ends what a dead run left running. */
  reclaim(run: RunRecord): Promise<void>;
}
