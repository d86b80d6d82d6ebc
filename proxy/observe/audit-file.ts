// The file descriptor under the audit: opens, notices that its file is gone, writes whole lines or says how far it came.
// Knows nothing of events; never asynchronous, for a decision must be on record before the first packet.
import fs from 'node:fs';

/** Where audit lines go. `write` returns the bytes taken: fewer than given when there is no room now. Throws what the system threw. */
export interface AuditFile {
  /** Null while it has to be opened again. */
  readonly fd: number | null;
  write(line: Buffer, from: number): number;
  /** Makes sure that a write would reach the named file; true when another file was opened for it. */
  ensure(): boolean;
  /** Opens by name again at the next ensure(): for log rotation. */
  reopen(): void;
  close(): void;
}

// Append: two writers never overwrite each other. Non-blocking: a FIFO without a reader is an error, not a hang.
const flags = fs.constants.O_WRONLY | fs.constants.O_APPEND | fs.constants.O_CREAT | fs.constants.O_NONBLOCK;
const stdoutFd = 1;

/** Opens `target`, a path or `-` for stdout; `inherited` is a descriptor of it that is open already. Throws the system's error. */
export function openAuditFile(target: string, inherited: number | null = null): AuditFile {
  if (target !== '-') return openPath(target, inherited ?? fs.openSync(target, flags, 0o600));
  if (inherited !== null) return openStream(inherited);
  // Touching process.stdout makes a pipe or socket non-blocking: a reader that stalls must not stop the whole proxy.
  void process.stdout.writableLength;
  return openStream(stdoutFd);
}

function openStream(stream: number): AuditFile {
  fs.fstatSync(stream);
  return {
    fd: stream,
    write: (lines, from) => writeSome(stream, lines, from, endOfAtomic),
    ensure: () => false,
    reopen: () => undefined,
    close: () => undefined,
  };
}

function openPath(path: string, opened: number): AuditFile {
  let fd: number | null = opened;
  const forget = (): void => {
    if (fd !== null) fs.closeSync(fd);
    fd = null;
  };
  return {
    get fd() {
      return fd;
    },
    write: (line, from) => (fd === null ? 0 : writeSome(fd, line, from)),
    ensure() {
      if (fd !== null && isStillNamed(fd, path)) return false;
      forget();
      fd = fs.openSync(path, flags, 0o600);
      return true;
    },
    reopen: forget,
    close: forget,
  };
}

/** A line written to an unlinked or renamed file is a line that nobody will find. */
function isStillNamed(fd: number, path: string): boolean {
  const open = fs.fstatSync(fd, { bigint: true });
  const named = statOrCode(path);
  // After the rights were dropped the folder may be out of sight; then only unlinking can be noticed.
  if (named === 'EACCES') return open.nlink > 0n;
  return typeof named === 'object' && named.ino === open.ino && named.dev === open.dev;
}

function statOrCode(path: string): fs.BigIntStats | string {
  try {
    return fs.statSync(path, { bigint: true });
  } catch (error) {
    return errorCode(error);
  }
}

/** PIPE_BUF: a pipe takes up to so many bytes whole or not at all, whoever else writes to it. */
const atomicBytes = 4096;

/** Where a write from `from` should end so that lines of several processes do not mix in a pipe; a line longer than that goes by itself. */
function endOfAtomic(lines: Buffer, from: number): number {
  const last = lines.lastIndexOf(0x0a, from + atomicBytes - 1);
  const end = last >= from ? last : lines.indexOf(0x0a, from);
  return end === -1 ? lines.length : end + 1;
}

function writeSome(
  fd: number,
  line: Buffer,
  from: number,
  endOf: (line: Buffer, from: number) => number = () => line.length,
): number {
  let done = from;
  while (done < line.length) {
    const taken = writeOnce(fd, line, done, endOf(line, done), done > from);
    if (taken === 0) break;
    done += taken;
  }
  return done - from;
}

/** A disk takes what it has room for, and says that it is full at the write after that: what it took must be known (`hasProgress`). */
function writeOnce(fd: number, line: Buffer, from: number, to: number, hasProgress: boolean): number {
  try {
    return fs.writeSync(fd, line, from, to - from);
  } catch (error) {
    if (hasProgress || errorCode(error) === 'EAGAIN') return 0;
    throw error;
  }
}

/** The system's code of an error, such as `ENOSPC`; the error's text when it has none. */
export function errorCode(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return String(error);
}
