// Listens to the drops that a fence with `log` tells of: runs tcpdump on its NFLOG group and hands on what nflog.ts reads. Nothing depends on it: while
// nobody listens the fence drops and counts as ever.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import type { DropLog } from './log-plan.ts';
import { createNflogReader, type DroppedPacket } from './nflog.ts';

/** A listener that runs. */
export interface DropListener {
  stop(): Promise<void>;
}

export interface DropListenerOptions {
  readonly log: Pick<DropLog, 'group'>;
  readonly onDrops: (packets: readonly DroppedPacket[]) => void;
  /** Once, when it ended without being asked to: with why, in a few words. */
  readonly onEnd: (why: string) => void;
}

const startMs = 5000;
const saidBytes = 500;

/** tcpdump lives as long as the shell's stdin, which is ours: it goes when we go, however that is. */
const script = `
exec 3<&0
tcpdump "$@" 3<&- & dump=$!
{ read -r _ <&3; kill "$dump"; } & life=$!
wait "$dump"; status=$?
kill "$life" 2>/dev/null
exit "$status"`;

/**
 * Resolves when it listens; it is not told of what was dropped before. Rejects with an Error when it does not come up. It keeps no right but to read: after
 * the socket is open tcpdump is the user `nobody`.
 */
export async function listenForDrops(options: DropListenerOptions): Promise<DropListener> {
  const args = ['-i', `nflog:${options.log.group}`, '-w', '-', '-U', '--immediate-mode', '-Z', 'nobody'];
  const child = spawn('sh', ['-c', script, 'sallyport-drop-log', ...args], { stdio: 'pipe', detached: true });
  const state = { isAsked: false, said: '' };
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(signal ?? `status ${code ?? 0}`));
  });
  child.stdin.on('error', () => undefined);
  child.stderr.on('error', () => undefined).setEncoding('utf8');
  child.stdout.on('error', () => undefined);
  readFrom(child, options.onDrops);
  const listening = new Promise<void>((resolve) => {
    child.stderr.on('data', (text: string) => {
      state.said = (state.said + text).slice(-saidBytes);
      if (state.said.includes('listening on')) resolve();
    });
  });
  const early = await Promise.race([listening, ended, tooLate()]);
  if (early !== undefined) {
    child.stdin.end();
    throw new Error(`tcpdump does not listen: ${early}; ${state.said.trim() || 'it said nothing'}`);
  }
  child.once('close', (code, signal) => {
    if (!state.isAsked) options.onEnd(signal ?? `status ${code ?? 0}`);
  });
  return {
    async stop() {
      state.isAsked = true;
      child.stdin.end();
      await ended;
    },
  };
}

/** A stream that is none of ours ends the listener. */
function readFrom(child: ChildProcessWithoutNullStreams, onDrops: DropListenerOptions['onDrops']): void {
  const read = createNflogReader();
  child.stdout.on('data', (piece: Buffer) => {
    try {
      const packets = read(piece);
      if (packets.length > 0) onDrops(packets);
    } catch {
      child.stdin.end();
    }
  });
}

async function tooLate(): Promise<string> {
  return await new Promise((resolve) => {
    setTimeout(() => resolve(`no answer in ${startMs / 1000} s`), startMs).unref();
  });
}
