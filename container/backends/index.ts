// Every backend, as a literal list: a reviewer sees each way to run a command here.
import type { Backend } from './types.ts';
import { unshare } from './unshare.ts';

export type { Backend, Ended, HostAlias, RunningCommand, Workspace } from './types.ts';

/** In order of preference; the first that is available is used. */
export const backends: readonly Backend[] = [unshare];
