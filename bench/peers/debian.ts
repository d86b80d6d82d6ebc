// What the peers that come as Debian packages have in common: where the program is, and which version.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

export interface DebianProgram {
  readonly path: string;
  /** The package's version; `unknown` when dpkg does not know it. */
  readonly version: () => string;
  readonly absent: () => string | undefined;
}

export function debianProgram(name: string): DebianProgram {
  const found = ['/usr/sbin', '/usr/bin'].map((folder) => join(folder, name)).find(isExecutable);
  return {
    path: found ?? name,
    absent: () => (found === undefined ? `not installed (apt-get install ${name})` : undefined),
    version() {
      const { stdout, status } = spawnSync('dpkg-query', ['-W', '-f=${Version}', name], { encoding: 'utf8' });
      return status === 0 ? stdout : 'unknown';
    },
  };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
