// Drives one sandboxed shell: sends it a command, waits for its end, and gathers what the audit, the kernel and the outside have to say about it.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Evidence } from './steps.ts';
import type { Origin, World } from './world.ts';

const root = join(import.meta.dirname, '../..');
const marker = '__sallyport_demo_step__';
const run = 'demo';

export interface Agent {
  try(command: string): Promise<Evidence>;
  /** Ends the shell; resolves with the exit status of `sallyport run`. */
  end(): Promise<number | null>;
}

export async function startAgent(world: World, origin: Origin): Promise<Agent> {
  const audit = join(world.dir, 'audit.jsonl');
  const ca = ['CURL_CA_BUNDLE', 'GIT_SSL_CAINFO', 'SSL_CERT_FILE'].flatMap((name) => [
    '--env',
    `${name}=/workspace/ca.pem`,
  ]);
  const options = [
    '--name',
    run,
    '--policy',
    join(root, 'policy/default.json'),
    '--workspace',
    world.workspace,
  ];
  const files = ['--hosts', world.hostsFile, '--audit', audit];
  const argv = [join(root, 'container/bin.sh'), 'run', ...options, ...files, ...ca, '--', 'sh'];
  const [command, args] = world.onHost(argv);
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  process.on('SIGTERM', () => void child.kill('SIGTERM'));
  const shell = new Shell(child);
  // The first answer is the sign that the launch gate has passed.
  await shell.ask('cd /workspace && exec 2>&1');
  const proxy = /\/\/([\d.]+):/.exec((await shell.ask('echo $https_proxy')).output)?.[1] ?? '';
  return {
    try: async (step) => {
      const before = { audit: auditLines(audit).length, drops: drops(world), outside: origin.seen.length };
      const { output, status } = await shell.ask(step.replaceAll('PROXY', proxy));
      await origin.settle();
      const decisions = auditLines(audit)
        .slice(before.audit)
        .filter((line) => line.event === 'decision' || line.event === 'name');
      const last = decisions.findLast((line) => line.verdict === 'deny') ?? decisions.at(-1) ?? noLine;
      const { reason = '', rule } = last;
      return {
        output,
        status,
        reason,
        rule: rule ?? '',
        drops: risen(before.drops, drops(world)),
        outside: origin.seen.slice(before.outside),
      };
    },
    end: async () => {
      child.stdin.end();
      return await new Promise((resolve) => child.once('exit', (code) => resolve(code)));
    },
  };
}

/** A shell on the other end of two pipes, asked one command at a time. */
class Shell {
  #text = '';
  #wake: () => void = () => {};
  #ended = false;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdin?.on('error', () => this.#end());
    child.once('exit', () => this.#end());
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
      this.#wake();
    });
  }

  #end(): void {
    this.#ended = true;
    this.#wake();
  }

  async ask(command: string): Promise<{ readonly output: string; readonly status: number }> {
    this.#text = '';
    this.#child.stdin?.write(`${command}\nprintf '\\n${marker} %s\\n' $?\n`);
    for (;;) {
      const found = new RegExp(`^([\\s\\S]*)\\n${marker} (\\d+)\\n`).exec(this.#text);
      if (found !== null) return { output: found[1] ?? '', status: Number(found[2]) };
      if (this.#ended) throw new Error('the sandbox ended before the demo did; what it said is above');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

interface AuditLine {
  readonly event?: string;
  readonly verdict?: string;
  readonly reason?: string;
  readonly rule?: string | null;
}

const noLine: AuditLine = {};

function auditLines(file: string): readonly AuditLine[] {
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  return lines.map((line) => JSON.parse(line) as AuditLine);
}

interface Listed {
  readonly counter?: { readonly name: string; readonly packets: number };
}

/** The fence's own counters, read from the kernel. */
function drops(world: World): ReadonlyMap<string, number> {
  const [command, args] = world.onHost(['nft', '-j', 'list', 'table', 'inet', `sallyport_${run}`]);
  const { nftables } = JSON.parse(execFileSync(command, args, { encoding: 'utf8' })) as {
    nftables: Listed[];
  };
  return new Map(
    nftables.flatMap(({ counter }) =>
      counter === undefined ? [] : [[counter.name.replace('drop_', ''), counter.packets] as const],
    ),
  );
}

function risen(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): ReadonlyMap<string, number> {
  const rise = [...after].map(([name, packets]) => [name, packets - (before.get(name) ?? 0)] as const);
  return new Map(rise.filter(([, by]) => by > 0));
}
