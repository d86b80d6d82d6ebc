// Runs a command with the proxy's variables and nothing else: policy, not physics. Only behind --env-only, and it says so. Needs no root.
import { spawn, type ChildProcess } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Ended, RunningCommand } from './backends/index.ts';
import { auditSize } from './denied.ts';
import { proxyVariables, wantedVariables } from './environment.ts';
import type { RunOptions } from './options.ts';
import { policyFacts } from './policy-facts.ts';
import { signal } from './processes.ts';
import { proxyFiles } from './proxy-files.ts';
import { compilePolicy, startProxyPart } from './proxy-part.ts';
import type { RunContext, RunResult } from './run.ts';
import { prepareState } from './state.ts';
import { RunRefused } from './refusal.ts';
import { supervise } from './supervise.ts';

const banner =
  'env-only: this is policy, not physics. Nothing stops the command from ignoring the proxy variables; use it where no fence can be built';

/** Copied from the caller when set; everything else is left behind. */
const kept = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'TERM', 'LANG', 'TMPDIR'] as const;

/** Runs the command on this machine as the calling user. Same ends, reports and refusals as a fenced run. */
export async function runEnvOnly(options: RunOptions, context: RunContext): Promise<RunResult> {
  context.voice.tell({ event: 'env_only', message: banner });
  const policy = await compilePolicy(options.policy);
  refuseClash([
    ...policyFacts(policy.text).services.map(({ port }) => port),
    ...options.services.map(({ port }) => port),
    ...options.hostPorts,
  ]);
  await prepareState(options.state);
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-'));
  await chmod(directory, 0o711);
  await context.resources.add({
    name: 'run directory',
    release: async () => await rm(directory, { recursive: true, force: true }),
  });
  const address = '127.0.0.1';
  const port = await freePort(address);
  const auditStart = await auditSize(options.audit);
  const files = await proxyFiles(directory, options, context.caller.uid);
  await files.writePolicy(policy.text);
  const proxy = await startProxyPart(directory, {
    ...files.config,
    listen: [`${address}:${port}`],
    principals: [{ name: options.id, source: '127.0.0.0/8' }],
    serviceListen: address,
    serviceAt: [],
    transparent: [],
    dnsListen: [],
    enforcement: 'env',
  });
  await context.resources.add(proxy);
  void proxy.died.then((how) =>
    context.voice.tell({ event: 'proxy_died', message: `the proxy is gone: ${how}` }),
  );
  context.stop.throwIfAborted();
  const asked = wantedVariables(options.wantedEnvironment, context.caller.environment);
  const own = kept.flatMap((name) => {
    const value = context.caller.environment[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const variables = proxyVariables({ id: options.id, proxy: { address, port }, direct: [] });
  const command = startHere(options.command, Object.fromEntries([...own, ...asked, ...variables]));
  await context.resources.add({ name: 'command', release: async () => await command.terminate(0) });
  const startedAt = performance.now();
  const outcome = await supervise(
    command,
    { timeoutMs: options.timeoutMs, stop: context.stop },
    context.voice,
  );
  return {
    ...outcome,
    policy: policy.digest,
    gate: null,
    drops: {},
    startedAt,
    audit: { start: auditStart, command: auditStart },
  };
}

/** There is one loopback address for all services, and no link that could have more. */
function refuseClash(ports: readonly number[]): void {
  const twice = ports.find((port, i) => ports.indexOf(port) < i);
  if (twice === undefined) return;
  throw new RunRefused(
    'usage',
    `port ${twice} is wanted twice, and --env-only has one address for all services`,
    'leave out one of them, or leave out --env-only',
  );
}

/** A port that was free a moment ago. The proxy refuses to start if somebody else was faster. */
async function freePort(address: string): Promise<number> {
  const server = createServer();
  server.listen(0, address);
  await once(server, 'listening');
  const bound = server.address();
  server.close();
  await once(server, 'close');
  return typeof bound === 'object' && bound !== null ? bound.port : 0;
}

/** In a process group of its own, so that its children end with it. */
function startHere(
  [program, ...args]: RunOptions['command'],
  environment: NodeJS.ProcessEnv,
): RunningCommand {
  const child = spawn(program, args, { stdio: 'inherit', detached: true, env: environment });
  const ended = watchEnd(child);
  return {
    ended,
    begin: async () => await Promise.resolve(),
    async terminate(graceMs) {
      if (child.pid === undefined) return;
      signal(-child.pid, 'SIGTERM');
      const isDone = await Promise.race([ended.then(() => true), delay(graceMs, false, { ref: false })]);
      signal(-child.pid, 'SIGKILL');
      if (!isDone) await ended;
    },
  };
}

/** 127 for a program that is not there, 126 for one that cannot be run, as a shell has it. */
async function watchEnd(child: ChildProcess): Promise<Ended> {
  return await new Promise((resolve) => {
    child.once('error', (error) =>
      resolve({ status: 'code' in error && error.code === 'ENOENT' ? 127 : 126 }),
    );
    child.once('close', (code, name) =>
      resolve({ status: code ?? 128 + (name === null ? 0 : constants.signals[name]) }),
    );
  });
}
