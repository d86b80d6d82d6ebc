// Listens to `nft monitor`: what the kernel tells of changes to rules. Judges nothing; a change it misses is found by the watch's own timer.
import { spawn } from 'node:child_process';
import type { NftMonitor } from './transaction.ts';

/** Runs the first of `commands` that is there until it is stopped; `onEnd` comes once, when it ended by itself or never started. */
export function startMonitor(
  commands: readonly (readonly string[])[],
  onNews: (lines: string) => void,
  onEnd: () => void,
): NftMonitor {
  const [[program = '', ...args] = [], ...others] = commands;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  const kill = (): void => void child.kill('SIGKILL');
  const state = { isOver: false, isHandedOn: false, stop: kill };
  const end = (): void => {
    if (state.isOver) return;
    state.isOver = true;
    onEnd();
  };
  child.on('close', () => {
    if (!state.isHandedOn) end();
  });
  child.on('error', () => {
    if (state.isOver || others.length === 0 || child.pid !== undefined) return;
    state.isHandedOn = true;
    const next = startMonitor(others, onNews, end);
    state.stop = () => next.stop();
  });
  child.stdout.on('error', end);
  child.stdout.setEncoding('utf8').on('data', onNews);
  return {
    stop() {
      state.isOver = true;
      state.stop();
    },
  };
}
