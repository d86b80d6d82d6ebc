// The door of the workers folder: a proxy of several processes. Does nothing itself.
export { type WorkerNews, WorkersFailed } from './fleet.ts';
export { countWorkers, startWorkers, WorkersUnavailable } from './start.ts';
