// The door of the runner: one command behind the fence, and the sweep of what a killed one left.
export { reclaimCommand } from './reclaim-command.ts';
export { runCommand } from './run-command.ts';
