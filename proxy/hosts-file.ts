// Answers names from a hosts file, re-read when it changes. Not a resolver: a name that is not listed is simply not known here.
import { closeSync, openSync, readSync, statSync, type BigIntStats } from 'node:fs';
import { canonicalHost, parseAddress, type Address } from '../policy/index.ts';

export interface HostsFile {
  /** Addresses of a canonical host, in file order over all lines; empty means not listed. @throws when the file is unreadable */
  lookup(host: string): readonly Address[];
}

type HostsTable = ReadonlyMap<string, readonly Address[]>;

const maxFileBytes = 1024 * 1024;
const emptyTable: HostsTable = new Map();

/**
 * Follows the hosts file at `path`; a missing file lists nothing. Anything else that hides the content (no permission, not
 * a file, over 1 MiB) is an error: the file may hold an override that must not be skipped.
 */
export function createHostsFile(path: string): HostsFile {
  let seen = { version: '', table: emptyTable };
  return {
    lookup(host) {
      // Synchronous on purpose: a stat costs microseconds here and ten times that through the thread pool.
      const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
      const version = stats === undefined ? 'missing' : versionOf(stats);
      // The version is taken before reading: a change in between shows as another version at the next look-up.
      if (version !== seen.version)
        seen = { version, table: stats === undefined ? emptyTable : readTable(path, stats) };
      return seen.table.get(host) ?? [];
    },
  };
}

/**
 * Throws Error with help when the hosts file at `path` cannot be used by this process, so that a proxy says so when it starts and not
 * at every look-up. A machine may have no /etc/hosts; a file that somebody named is there or a mistake.
 */
export function checkHostsFile(path: string): void {
  const help = 'help: make it readable for the user the proxy runs as, or give another with --hosts';
  try {
    if (path !== '/etc/hosts') statSync(path);
    createHostsFile(path).lookup('localhost');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`hosts file \`${path}\` cannot be read: ${why}\n${help}`, { cause: error });
  }
}

/** The table of a hosts file: address, names, `#` comments. Lines and names that cannot be read strictly are skipped. */
export function parseHosts(text: string): HostsTable {
  const table = new Map<string, Address[]>();
  for (const line of text.split('\n')) {
    const [first = '', ...names] = (line.split('#', 1)[0] ?? '').trim().split(/\s+/);
    const address = parseAddress(first);
    if (address !== undefined) addNames(table, names, address);
  }
  return table;
}

function addNames(table: Map<string, Address[]>, names: readonly string[], address: Address): void {
  for (const name of names) {
    const canonical = canonicalHost(name);
    if (!('host' in canonical)) continue;
    const addresses = table.get(canonical.host) ?? [];
    if (addresses.every((known) => known.text !== address.text)) addresses.push(address);
    table.set(canonical.host, addresses);
  }
}

function versionOf({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${ino}/${size}/${mtimeNs}/${ctimeNs}`;
}

function readTable(path: string, stats: BigIntStats): HostsTable {
  // Opening a FIFO would block, so the kind is judged first.
  if (!stats.isFile()) throw new Error(`hosts file \`${path}\` is not a regular file`);
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(maxFileBytes + 1);
    const bytesRead = readSync(file, buffer, 0, buffer.length, 0);
    if (bytesRead > maxFileBytes) throw new Error(`hosts file \`${path}\` is larger than 1 MiB`);
    return parseHosts(buffer.toString('latin1', 0, bytesRead));
  } finally {
    closeSync(file);
  }
}
