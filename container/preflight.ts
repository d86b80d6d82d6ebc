// What must be there before anything is made: root and the tools. Answers from PATH alone; it changes nothing.
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { RunRefused } from './refusal.ts';

/** A program the runner starts, and the Debian package that has it. */
const tools = [
  ['ip', 'iproute2'],
  ['nft', 'nftables'],
  ['nsenter', 'util-linux'],
  ['unshare', 'util-linux'],
  ['setpriv', 'util-linux'],
  ['mount', 'mount'],
] as const;

/** What the check looks at; a test passes its own. */
export interface Machine {
  readonly uid: number;
  readonly path: string;
  /** True when drops are to be logged, which takes one program more. */
  readonly isDropLogged?: boolean;
}

/** Throws RunRefused (boundary, 69) when the fence cannot be built here. Never falls back to something weaker. */
export function preflight(machine: Machine): void {
  if (machine.uid !== 0) {
    throw refuse(
      'the fence needs root',
      'run it with sudo, or accept policy without physics with --env-only',
    );
  }
  const wanted = [...tools, ...(machine.isDropLogged === true ? [['tcpdump', 'tcpdump'] as const] : [])];
  const missing = wanted.filter(([name]) => findTool(name, machine.path) === undefined);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(([, name]) => name))].join(' ');
  throw refuse(
    `not found on PATH: ${missing.map(([name]) => name).join(', ')}`,
    `apt-get install ${packages}; \`sallyport doctor\` checks every need`,
  );
}

function refuse(problem: string, help: string): RunRefused {
  return new RunRefused('boundary', problem, help);
}

/** Full path of an executable on `path`, or undefined. */
export function findTool(name: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
