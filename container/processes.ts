// Finds and ends what still runs in a network namespace. Goes by the namespace's identity, so it works when its name is gone.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { netnsOf, startTime } from './state.ts';

/** Process ids in the namespace `identity` (`net:[...]`), without those that are already zombies. */
export function processesIn(identity: string): readonly number[] {
  return allProcesses().filter((pid) => netnsOf(pid) === identity && startTime(pid) !== undefined);
}

/**
 * Kills everything of run `id` and waits until it is gone. A namespace's number is used again once it is free, so nothing is
 * touched unless one process there carries the run's marker: pid 1 of a live sandbox always does, and the command cannot change that.
 * Rejects when something survives `limitMs`.
 */
export async function killRun(identity: string, id: string, limitMs = 5000): Promise<void> {
  if (!processesIn(identity).some((pid) => hasMarker(pid, id))) return;
  const deadline = performance.now() + limitMs;
  for (let left = processesIn(identity); left.length > 0; left = processesIn(identity)) {
    if (performance.now() > deadline) throw new Error(`processes ${left.join(', ')} do not end`);
    for (const pid of left) signal(pid, 'SIGKILL');
    await delay(5);
  }
}

function hasMarker(pid: number, id: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`SALLYPORT_RUN=${id}`);
  } catch {
    return false;
  }
}

/** Sends `name` to `pid`; false when it has ended already. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

function allProcesses(): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}
