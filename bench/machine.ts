// What the figures were read on: cores, processor, memory, kernel and load. No name of the machine, no path.
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';

const gib = 2 ** 30;

export function machineRows(descriptors: number): readonly (readonly [string, string])[] {
  return [
    ['cores', String(availableParallelism())],
    ['processor', cpus()[0]?.model.trim() ?? 'unknown'],
    ['memory', `${Math.round(totalmem() / gib)} GiB`],
    ['kernel', release()],
    ['system', systemName()],
    ['congestion control', `${congestionControl()}, on every connection`],
    ['file descriptors of one process', String(descriptors)],
  ];
}

/** Processes that wanted a core in the last minute: above 0 before the first run, others were at work too. */
export function loadNow(): string {
  return (loadavg()[0] ?? 0).toFixed(2);
}

function congestionControl(): string {
  return readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim();
}

function systemName(): string {
  return /^PRETTY_NAME="?([^"\n]*)/mu.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown';
}
