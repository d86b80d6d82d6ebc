// Closes what this process inherited and nobody asked for, so that no child can get it. Standard streams and Node's own stay.
import { closeSync, readFileSync, readdirSync } from 'node:fs';

/** O_CLOEXEC of fcntl.h, the same number on x86-64 and AArch64. */
const closeOnExec = 0o2000000;

/**
 * Closes every descriptor above 2 that would survive an exec. Node marks its own, and the first inherited ones; an inherited one beyond
 * a gap (`exec 251</`) it leaves as it is, and an open directory of the host is a way out of any mount namespace.
 */
export function closeInherited(): void {
  for (const fd of readdirSync('/proc/self/fd').map(Number)) {
    if (fd > 2 && survivesExec(fd)) closeSync(fd);
  }
}

/** False for one that is closed by now: the listing of the directory needed one itself. */
function survivesExec(fd: number): boolean {
  try {
    const [, flags] = /^flags:\s+([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
    return flags !== undefined && (Number.parseInt(flags, 8) & closeOnExec) === 0;
  } catch {
    return false;
  }
}
