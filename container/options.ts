// What `sallyport run` was asked for, and what follows from it alone: name and places. Makes nothing.
import { join, resolve } from 'node:path';
import { aliasesOf } from './doors.ts';
import { wantedVariables } from './environment.ts';
import {
  readEndpoint,
  readListen,
  readPort,
  readService,
  readTimeout,
  type ServiceFlag,
} from './flag-values.ts';
import { chooseRunId } from './names.ts';
import { readParent, type ParentFlags, type ParentOptions } from './parent.ts';
import { RunRefused } from './refusal.ts';
import { readWiring, type Wiring } from './wiring.ts';

/** Flags as commander gives them; see run-command.ts for their help. */
export interface RunFlags extends ParentFlags {
  readonly policy: string;
  readonly service?: readonly string[];
  readonly hostPort?: readonly string[];
  readonly name?: string;
  readonly timeout?: string;
  readonly env?: readonly string[];
  readonly json?: boolean;
  readonly workspace?: string;
  readonly metrics?: string;
  readonly hosts?: string;
  readonly resolver?: readonly string[];
  readonly audit?: string;
  readonly envOnly?: boolean;
  readonly wiring?: string;
  readonly logDrops?: boolean;
  /** False with `--no-hints`. */
  readonly hints?: boolean;
}

/** Who calls: the caller's environment and user. */
export interface Caller {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
}

/** A run as asked for, checked as far as can be without making anything. */
export interface RunOptions {
  readonly id: string;
  readonly policy: string;
  readonly services: readonly ServiceFlag[];
  readonly hostPorts: readonly number[];
  readonly timeoutMs: number | null;
  readonly wantedEnvironment: readonly string[];
  readonly workspace: string | null;
  readonly metrics: string | null;
  readonly hosts: string | null;
  readonly resolver: readonly string[];
  readonly state: string;
  readonly audit: string;
  readonly isJson: boolean;
  readonly isEnvOnly: boolean;
  readonly wiring: Wiring;
  /** Tell of dropped packets in the audit. */
  readonly isDropLogged: boolean;
  readonly parent: ParentOptions | null;
  readonly hints: boolean;
  readonly command: readonly [string, ...string[]];
}

/** The checked options. Throws RunRefused (usage, 2) on the first thing that cannot be. */
export function readOptions(flags: RunFlags, command: readonly string[], caller: Caller): RunOptions {
  const [program, ...args] = command;
  if (program === undefined)
    throw usage('there is no command', 'give it after `--`: sallyport run -- curl https://api.github.com');
  const id = chooseRunId(flags.name);
  const state = stateDirectory(caller);
  if (flags.envOnly === true && flags.workspace !== undefined) {
    throw usage('--workspace needs a sandbox, and --env-only has none', 'leave out one of the two');
  }
  const wiring = readWiring(flags.wiring ?? (flags.envOnly === true ? 'env' : 'both'));
  if (flags.envOnly === true && wiring !== 'env')
    throw usage(`--wiring ${wiring} needs a sandbox, and --env-only has none`, 'leave out one of the two');
  if (flags.envOnly === true && flags.logDrops === true)
    throw usage('--log-drops needs a fence, and --env-only has none', 'leave out one of the two');
  const services = (flags.service ?? []).map(readService);
  const hostPorts = (flags.hostPort ?? []).map((text) => readPort('--host-port', text));
  // The policy may bring more services; what is wrong with the flags alone is said first.
  aliasesOf({ services, hostPorts });
  wantedVariables(flags.env ?? [], caller.environment);
  return {
    id,
    policy: resolve(flags.policy),
    services,
    hostPorts,
    timeoutMs: flags.timeout === undefined ? null : readTimeout(flags.timeout),
    wantedEnvironment: flags.env ?? [],
    workspace: flags.workspace ?? null,
    metrics: flags.metrics === undefined ? null : readListen('--metrics', flags.metrics),
    hosts: flags.hosts === undefined ? null : resolve(flags.hosts),
    resolver: (flags.resolver ?? []).map((text) => readEndpoint('--resolver', text)),
    state,
    audit: flags.audit === undefined ? join(state, 'audit', `${id}.jsonl`) : resolve(flags.audit),
    isJson: flags.json ?? false,
    isEnvOnly: flags.envOnly ?? false,
    wiring,
    isDropLogged: flags.logDrops ?? false,
    parent: readParent(flags, caller.environment),
    hints: flags.hints ?? true,
    command: [program, ...args],
  };
}

/** SALLYPORT_STATE_DIR; default /run/sallyport for root, the user's state directory for others. */
export function stateDirectory({ environment, uid }: Caller): string {
  const told = environment['SALLYPORT_STATE_DIR'];
  if (told !== undefined && told !== '') return resolve(told);
  if (uid === 0) return '/run/sallyport';
  return join(
    environment['XDG_STATE_HOME'] ?? join(environment['HOME'] ?? '/tmp', '.local/state'),
    'sallyport',
  );
}

function usage(message: string, help: string): RunRefused {
  return new RunRefused('usage', message, help);
}
