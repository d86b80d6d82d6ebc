// `sallyport run` as a command: its flags and help, signals in, exit status and report out. The story is run.ts.
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { deniedText, readDenied, type Denied } from './denied.ts';
import { runEnvOnly } from './env-only.ts';
import { readOptions, type Caller, type RunFlags, type RunOptions } from './options.ts';
import { exitCodes } from './refusal.ts';
import { createVoice, errorText, refusedReport, statusOf, type RunReport, type Voice } from './report.ts';
import { createResources } from './resource.ts';
import { runFenced, type RunContext, type RunResult } from './run.ts';
import { stopStatus } from './supervise.ts';

const defaultPolicy = join(import.meta.dirname, '..', 'policy', 'default.json');

const stopSignals = [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const;

/** The command; `caller` is who started this process. */
export function runCommand(caller: Caller): Command {
  return new Command('run')
    .description('run a command behind the fence: its only way out is the proxy')
    .argument('<command...>', 'the command and its arguments, after `--`')
    .passThroughOptions()
    .addOption(
      new Option('--policy <file>', 'policy, .json or .nix').default(defaultPolicy, 'the shipped allowlist'),
    )
    .option(
      '--service <alias=host:port[@addr]>',
      'a named opaque TCP service, reached inside as alias:port; `@addr` after it allows a private address (repeatable)',
      more,
    )
    .option(
      '--host-port <port>',
      "a port of this machine's loopback, reached inside as host.sallyport:port (repeatable)",
      more,
    )
    .option('--name <name>', 'name of the run: a lower-case letter, then up to eleven letters or digits')
    .option('--timeout <seconds>', 'end the command after this time, with status 124')
    .option('--env <name>', 'pass a variable on (NAME) or set one (NAME=VALUE) (repeatable)', more)
    .option(
      '--workspace <dir>',
      'existing directory, writable inside as /workspace (default: an empty one that ends with the run)',
    )
    .option('--metrics <addr:port>', "serve the proxy's metrics here, on the host side")
    .option('--hosts <file>', 'hosts file the proxy asks before DNS (default: /etc/hosts)')
    .option(
      '--resolver <ip:port>',
      'DNS server for the proxy (repeatable; default: those of /etc/resolv.conf)',
      more,
    )
    .option('--parent <http://host:port>', 'proxy to go out through, by CONNECT (default: SALLYPORT_PARENT)')
    .option('--parent-credentials <file>', 'one line USER:PASSWORD for the parent proxy')
    .option(
      '--parent-resolves-names',
      'tell the parent names: it looks them up again, so the addresses that were judged are not the ones it dials',
    )
    .option('--audit <file>', 'audit file (default: <state>/audit/<name>.jsonl; it stays after the run)')
    .option(
      '--wiring <env|transparent|both>',
      'how the command finds the proxy: by variables, by DNS that leads to its ports for TLS and plain HTTP, or both (default: both)',
    )
    .option(
      '--log-drops',
      'write packets that the fence drops to the audit, ten a second of each class at most (needs tcpdump)',
    )
    .option(
      '--no-hints',
      'tell a refused client the reason only: no hint, no similar name, no rule, no way to ask for more',
    )
    .option(
      '--json',
      'print one JSON object about the run as the last line of stderr, and no other line of ours',
    )
    .option(
      '--env-only',
      'no fence: set the proxy variables and hope. For machines where no fence can be built',
    )
    .addHelpText('after', helpText)
    .action(async (command: readonly string[], flags: RunFlags) => {
      process.exitCode = await runAndReport(flags, command, caller);
    });
}

const helpText = `
Examples:
  sallyport run -- curl -sS https://api.github.com
  sallyport run --policy team.nix --workspace ~/project --timeout 3600 -- claude -p "fix the tests"
  sallyport run --service db=db.corp.example:5432 -- psql -h db
  sallyport run --service db=db.corp.example:5432@10.0.3.7 -- psql -h db
  sallyport run --wiring transparent -- curl -sS https://api.github.com
  sallyport run --parent http://proxy.corp.example:3128 --parent-credentials ~/.proxy -- curl -sS https://api.github.com
  sallyport run --host-port 8080 -- curl http://host.sallyport:8080/

The exit status is the command's own (128 + n when signal n ended it), except:
${exitCodes.map(({ code, sentence }) => `  ${String(code).padStart(3)}  ${sentence}`).join('\n')}
  130, 143  the runner was told to stop by SIGINT or SIGTERM

SIGHUP reads the policy again. Runs keep their state in SALLYPORT_STATE_DIR (default /run/sallyport).`;

function write(text: string): void {
  process.stderr.write(text);
}

/** commander gives what a flag has collected so far, and at first nothing. */
function more(value: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, value];
}

async function runAndReport(flags: RunFlags, command: readonly string[], caller: Caller): Promise<number> {
  const calledAt = performance.now();
  const stop = new AbortController();
  const voice = createVoice(flags.json ?? false, write);
  const signals = catchSignals(stop);
  try {
    const options = readOptions(flags, command, caller);
    const { result, error } = await runAndRelease(options, {
      caller,
      voice,
      stop: stop.signal,
      onReload: (reload) => signals.onReload(reload),
    });
    const isStopped = stop.signal.aborted;
    const status = result?.status ?? (isStopped ? stopStatus(stop.signal) : statusOf(error));
    const denied = await deniedTo(options, result);
    if (options.isJson) {
      const told = { options, status, result, error, isStopped, calledAt, voice, denied };
      write(`${JSON.stringify(report(told))}\n`);
      return status;
    }
    if (error !== undefined && !isStopped) write(errorText(error));
    if (denied.total > 0) write(`sallyport: ${deniedText(denied, options.audit)}\n`);
    return status;
  } catch (error) {
    const lines = refusedReport(error, seconds(calledAt, performance.now()), voice.events);
    write(flags.json === true ? `${JSON.stringify(lines)}\n` : errorText(error));
    return statusOf(error);
  } finally {
    signals.release();
  }
}

/** The run and its end: every resource is given back before anything is reported. */
async function runAndRelease(
  options: RunOptions,
  context: Omit<RunContext, 'resources'>,
): Promise<{ result?: RunResult; error?: unknown }> {
  const resources = createResources();
  const run = options.isEnvOnly ? runEnvOnly : runFenced;
  try {
    return { result: await run(options, { ...context, resources }) };
  } catch (error) {
    return { error };
  } finally {
    for (const { name, error } of await resources.releaseAll()) {
      context.voice.tell({
        event: 'cleanup_failed',
        message: `${name} could not be given back: ${String(error)}; \`sallyport reclaim\` tries again`,
      });
    }
  }
}

/** The proxy has ended by now, so everything is written. An audit that cannot be read is no reason to fail a run that is over. */
async function deniedTo(options: RunOptions, result: RunResult | undefined): Promise<Denied> {
  const nothing = { total: 0, most: [] };
  if (result === undefined) return nothing;
  return await readDenied(options.audit, options.id, result.audit).catch(() => nothing);
}

interface Told {
  readonly options: RunOptions;
  readonly status: number;
  readonly result: RunResult | undefined;
  readonly error: unknown;
  readonly isStopped: boolean;
  readonly calledAt: number;
  readonly voice: Voice;
  readonly denied: Denied;
}

const early = 'interrupted before the command was started';

function report({ options, status, result, error, isStopped, calledAt, voice, denied }: Told): RunReport {
  const known = {
    ...refusedReport(error, seconds(calledAt, performance.now()), voice.events),
    run: options.id,
    status,
    audit: options.audit,
  };
  if (result === undefined) return isStopped ? { ...known, ended: 'interrupted', message: early } : known;
  const { ended, message, policy, drops, gate } = result;
  const enforcement = options.isEnvOnly ? 'env' : 'fence';
  const startSeconds = seconds(calledAt, result.startedAt);
  return { ...known, ended, message, enforcement, policy, startSeconds, drops, denied, gate };
}

function seconds(from: number, to: number): number {
  return Math.round(to - from) / 1000;
}

/** From the first line of a run to its last: a second signal changes nothing, cleaning up is always finished. */
function catchSignals(stop: AbortController): {
  onReload(reload: () => Promise<void>): void;
  release(): void;
} {
  const reloads: (() => Promise<void>)[] = [];
  const hang = (): void => {
    for (const reload of reloads) void reload();
  };
  const handlers = stopSignals.map(([name, status]) => [name, () => stop.abort(status)] as const);
  for (const [name, handler] of handlers) process.on(name, handler);
  process.on('SIGHUP', hang);
  return {
    onReload: (reload) => void reloads.push(reload),
    release() {
      for (const [name, handler] of handlers) process.off(name, handler);
      process.off('SIGHUP', hang);
    },
  };
}
