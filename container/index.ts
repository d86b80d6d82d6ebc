// The door of the runner: one command behind the fence, its gate once more, and the sweep of what a killed one left.
export { probeCommand } from './probe-command.ts';
export { reclaimCommand } from './reclaim-command.ts';
export { runCommand } from './run-command.ts';
