// A wall clock that a test can move under a run: clock.c, compiled, and the file that it reads. Moves no other clock, and no other program's.
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../helpers/netns.ts';

export interface MovableClock {
  /** The library to be loaded. */
  readonly library: string;
  /** Moves it to so many seconds from the true time. */
  readonly set: (seconds: number) => void;
}

export async function makeClock(dir: string): Promise<MovableClock> {
  const [library, offset] = [join(dir, 'clock.so'), join(dir, 'clock')];
  writeFileSync(offset, Buffer.alloc(8), { mode: 0o644 });
  const source = join(import.meta.dirname, 'clock.c');
  const flags = ['-shared', '-fPIC', '-O2', `-DOFFSET="${offset}"`];
  const { code, stderr } = await run(['cc', ...flags, '-o', library, source]);
  if (code !== 0) throw new Error(stderr);
  return {
    library,
    set(seconds) {
      const bytes = Buffer.alloc(8);
      bytes.writeBigInt64LE(BigInt(seconds));
      // In place: who has it mapped sees it at once.
      const fd = openSync(offset, 'r+');
      writeSync(fd, bytes, 0, 8, 0);
      closeSync(fd);
    },
  };
}
