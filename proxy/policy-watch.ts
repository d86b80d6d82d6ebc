// Notices that a policy file may have changed. Watches its directory, which tells of most changes at once, and looks at the file itself
// every two seconds: behind a link, or in a directory that was swapped, a change is in no directory that is watched. Reads no policy.
import { realpathSync, statSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';

/** Writers touch a file several times; this much after the first touch we look, in ms. */
const settleMs = 100;
const pollMs = 2000;

/** Which file a path leads to, and in which state it is. Two that differ are worth a reload. */
export type FileVersion = string;

/** The version of the policy at `path` now. Synchronous on purpose: two calls to the kernel, like a look-up in the hosts file. */
export function policyVersion(path: string): FileVersion {
  return versionOf(() => `${realpathSync(path)} ${identityOf(path)}`);
}

/**
 * Calls `onChange` after changes until closed. `read` is the version from before the policy in force was read. A directory that cannot be
 * watched is an error at the start, and tried again later.
 */
export function watchPolicyFile(path: string, read: FileVersion, onChange: () => void): { close(): void } {
  return new PolicyWatch(path, read, onChange);
}

class PolicyWatch {
  readonly #path: string;
  readonly #onChange: () => void;
  readonly #poll: NodeJS.Timeout;
  #version: FileVersion;
  #directory: FileVersion;
  #watcher: FSWatcher;
  #settling: NodeJS.Timeout | undefined;

  constructor(path: string, read: FileVersion, onChange: () => void) {
    this.#path = path;
    this.#onChange = onChange;
    this.#version = read;
    this.#directory = directoryVersion(path);
    this.#watcher = this.#watch();
    this.#poll = setInterval(() => this.#look(), pollMs).unref();
  }

  close(): void {
    clearInterval(this.#poll);
    clearTimeout(this.#settling);
    this.#watcher.close();
  }

  #look(): void {
    if (directoryVersion(this.#path) !== this.#directory) this.#watchAgain();
    if (policyVersion(this.#path) !== this.#version) this.#soon();
  }

  #soon(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      this.#version = policyVersion(this.#path);
      this.#onChange();
    }, settleMs);
  }

  /** The path leads to another directory by now: this one stays watched until that one is. */
  #watchAgain(): void {
    const directory = directoryVersion(this.#path);
    try {
      const next = this.#watch();
      this.#watcher.close();
      this.#watcher = next;
      this.#directory = directory;
      this.#soon();
    } catch {
      // It is missing for the moment, or there are too many watches: the next look tries again.
    }
  }

  #watch(): FSWatcher {
    const watcher = watch(dirname(this.#path), { persistent: false }, (_event, name) => {
      if (name === null || isOfPolicy(name, this.#path)) this.#soon();
    });
    // A watch that failed is dead.
    watcher.on('error', () => {
      this.#directory = '';
    });
    return watcher;
  }
}

/** The file itself, the link that a Kubernetes ConfigMap swaps (`..data`), or another Nix file that a Nix policy may import. */
function isOfPolicy(name: string, path: string): boolean {
  return name === basename(path) || name.startsWith('..') || (path.endsWith('.nix') && name.endsWith('.nix'));
}

function directoryVersion(path: string): FileVersion {
  return versionOf(() => {
    const { dev, ino } = statSync(dirname(path), { bigint: true });
    return `${dev}/${ino}`;
  });
}

function identityOf(path: string): string {
  const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
  return `${dev}/${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}

function versionOf(look: () => string): FileVersion {
  try {
    return look();
  } catch (error) {
    return `unreadable ${error instanceof Error && 'code' in error ? String(error.code) : ''}`;
  }
}
