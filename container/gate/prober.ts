// The launch gate's hand inside the sandbox's network: starts probe-child.ts there, passes orders and answers. Judges nothing.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { RunNames } from '../names.ts';
import type { ProbeAnswer, ProbeOrder } from './probe-child.ts';
import type { Resource } from '../resource.ts';

/** Tries things from inside. */
export interface Prober extends Resource {
  /** Sends one order; calls back with every answer to it. */
  order(order: ProbeOrder, onAnswer: (answer: ProbeAnswer) => void): void;
}

/** Starts it; it can take orders at once. Rejects when it does not come up. */
export async function startProber(names: RunNames): Promise<Prober> {
  const child = enter(names, [process.execPath, join(import.meta.dirname, 'probe-child.ts')]);
  const listeners = new Map<string, (answer: ProbeAnswer) => void>();
  const lines = createInterface({ input: child.stdout });
  const ready = Promise.race([once(lines, 'line').then(() => true), once(child, 'close').then(() => false)]);
  lines.on('line', (line) => {
    const answer = readAnswer(line);
    listeners.get(answer.id)?.(answer);
  });
  if (!(await ready)) throw new Error('the probe process did not start inside the sandbox network');
  return {
    name: 'prober',
    order(order, onAnswer) {
      listeners.set(order.id, onAnswer);
      child.stdin.write(`${JSON.stringify(order)}\n`);
    },
    release: async () => await end(child),
  };
}

/** The child is our own program, but what it heard is not ours: every field is read as what it should be. */
function readAnswer(line: string): ProbeAnswer {
  const value: unknown = JSON.parse(line);
  const fields = new Map<string, unknown>(
    typeof value === 'object' && value !== null ? Object.entries(value) : [],
  );
  const text = (key: string): string => {
    const found = fields.get(key);
    return typeof found === 'string' ? found : '';
  };
  const [id, outcome] = [text('id'), text('outcome')];
  if (outcome === 'connected' || outcome === 'sent') return { id, outcome };
  return outcome === 'replied'
    ? { id, outcome, reply: text('reply') }
    : { id, outcome: 'error', error: text('error') };
}

function enter(names: RunNames, argv: readonly string[]) {
  const child = spawn('nsenter', [`--net=${names.netnsPath}`, '--', ...argv], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin', SALLYPORT_RUN: names.id },
  });
  child.on('error', () => undefined);
  child.stdin.on('error', () => undefined);
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}
