// The commands `sallyport proxy` and `sallyport config`: flags in, a running proxy or a page out. Decides nothing.
import { Command, Option } from 'commander';
import { type Logger, pino } from 'pino';
import { type Given, loadSettings, type ProxySettings } from './config.ts';
import { unknownVariables } from './config-env.ts';
import { defaultOf, showJson, showLines } from './config-page.ts';
import { readTold } from './config-sources.ts';
import { flagOf, settingKeys, settingTable, type Told } from './config-table.ts';
import { descriptorShortage } from './descriptors.ts';
import { describe, exitCodes, obeySignals, statusOf } from './lifecycle.ts';
import type { ReloadResult } from './policy-store.ts';
import { type RunningProxy, startProxy } from './start.ts';
import { countWorkers, startWorkers, type WorkerNews, type WorkersFailed } from './workers/index.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const stderrFd = 2;
const ignored = 'this environment variable is no setting and is ignored';

const proxyHelp = `
Each setting can also come from the environment (SALLYPORT_LISTEN, ...) or from a JSON file; flags win, then the environment, then the file.
SIGHUP reads the policy again and reopens the audit; SIGTERM drains. The log goes to stderr, the audit to --audit.
Exit status: 0 drained, 2 bad use, settings or policy, 69 this machine cannot, 70 a bug, or workers that do not stay up.

Examples:
  sallyport proxy --policy policy/default.json --listen 127.0.0.1:3128
  sallyport proxy --policy team.nix --audit /var/log/sallyport.jsonl --metrics 127.0.0.1:9464
  sallyport proxy --config sidecar.json
`;

const configHelp = `
Examples:
  sallyport config show --origin
  sallyport config show --config sidecar.json --json
`;

/** `sallyport proxy`. `env` is the environment of the process. */
export function proxyCommand(env: Environment): Command {
  const command = new Command('proxy').description('run the allowlisting proxy in the foreground');
  return withSettings(command)
    .showHelpAfterError('help: `sallyport proxy --help` lists the flags')
    .addHelpText('after', proxyHelp)
    .action(async () => await runProxy(command, env));
}

/** `sallyport config show`. */
export function configCommand(env: Environment): Command {
  const show = new Command('show').description("print the proxy's settings as they would be used");
  withSettings(show)
    .option('--origin', 'with the source of each')
    .option('--json', 'print JSON')
    .showHelpAfterError('help: `sallyport config show --help` lists the flags')
    .addHelpText('after', configHelp)
    .action(() => showConfig(show, env));
  return new Command('config')
    .description("the proxy's settings")
    .addCommand(show)
    .addHelpText('after', configHelp);
}

function withSettings(command: Command): Command {
  command.option('--config <FILE>', 'JSON file of settings');
  for (const key of settingKeys) command.addOption(optionOf(key));
  return command;
}

function optionOf(key: keyof Told): Option {
  const { read, doc, unit, fallback } = settingTable[key];
  const value = read.placeholder === '' ? '' : ` <${read.placeholder}>`;
  const notes = [read.isList ? 'repeatable' : '', unit ?? '', `default: ${defaultOf(key)}`].filter(Boolean);
  const option = new Option(
    `${flagOf(key)}${value}`,
    `${fallback === true ? 'no ' : ''}${doc} (${notes.join(', ')})`,
  );
  return value === '' ? option : option.argParser(collect);
}

/** commander gives what a flag has collected so far, and at first nothing. */
function collect(one: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), one];
}

/** What commander has read, as texts by setting. Its own defaults are not given values. */
function givenOf(command: Command, env: Environment): Given {
  const flags = new Map<string, readonly string[]>();
  for (const key of settingKeys) {
    const name = optionOf(key).attributeName();
    const value: unknown =
      command.getOptionValueSource(name) === 'cli' ? command.getOptionValue(name) : undefined;
    if (value !== undefined)
      flags.set(key, Array.isArray(value) ? value.map(String) : [value === true ? 'true' : 'false']);
  }
  const file: unknown = command.getOptionValue('config');
  return { flags, env, file: typeof file === 'string' ? file : null };
}

function showConfig(command: Command, env: Environment): void {
  try {
    const { told, origins } = readTold(givenOf(command, env));
    const { origin = false, json = false } = command.opts<{ origin?: boolean; json?: boolean }>();
    for (const { name, help } of unknownVariables(env))
      process.stderr.write(`warning: \`${name}\`: ${ignored}\nhelp: ${help}\n`);
    process.stdout.write((json ? showJson : showLines)(told, origins, origin));
  } catch (error) {
    process.stderr.write(describe(error));
    process.exitCode = exitCodes.usage;
  }
}

async function runProxy(command: Command, env: Environment): Promise<void> {
  try {
    const settings = loadSettings(givenOf(command, env));
    // Synchronous: the last lines before an end are the ones that are needed.
    const log = pino({ name: 'sallyport' }, pino.destination({ fd: stderrFd, sync: true }));
    for (const { name, help } of unknownVariables(env)) log.warn({ variable: name, help }, ignored);
    const starting = start(settings, log);
    obeySignals(starting, log, (status) => process.exit(status));
    announce(await starting, settings, log);
  } catch (error) {
    process.stderr.write(describe(error));
    process.exitCode = statusOf(error);
  }
}

async function start(settings: ProxySettings, log: Logger): Promise<RunningProxy> {
  const { count, problem } = countWorkers(settings.workers);
  if (problem !== null) log.warn({ problem }, 'one process carries all clients: the native part is missing');
  const options = {
    onBug: (error: unknown, stage: string) => tellBug(error, stage, log),
    onReload: (result: ReloadResult, unserved: readonly string[]) => tellReload(result, unserved, log),
    onOrphaned: () => process.exit(exitCodes.drained),
  };
  if (count === 1) return await startProxy(settings, options);
  return await startWorkers(settings, count, {
    ...options,
    onWorker: (news) => tellWorker(news, log),
    onFailed: (error) => endFailed(error, log),
  });
}

/** A client that could not be accepted is no fault of ours: a descriptor or memory is missing. */
function tellBug(error: unknown, stage: string, log: Logger): void {
  if (stage === 'accept') log.warn({ err: error, stage }, 'clients are turned away');
  else log.error({ err: error, stage }, 'bug');
}

function tellWorker(news: WorkerNews, log: Logger): void {
  if (news.event === 'ready' || news.event === 'awake') log.info(news, `worker ${news.event}`);
  else log.error(news, `worker ${news.event}`);
}

/** Nobody serves: a supervisor can do more about that than we can. */
function endFailed(error: WorkersFailed, log: Logger): void {
  log.fatal({ err: error, help: error.help }, 'the workers do not stay up');
  process.exit(exitCodes.bug);
}

function tellReload(result: ReloadResult, unserved: readonly string[], log: Logger): void {
  if (result.ok) log.info(result, 'policy reloaded');
  else log.error(result, 'policy not reloaded: the last good one stays in force');
  if (unserved.length > 0)
    log.warn({ unserved, help: unservedHelp }, 'the policy allows what no port is open for');
}

const unservedHelp =
  'ports are opened at the start: start the proxy again, with --transparent for each new port';

function announce(proxy: RunningProxy, settings: ProxySettings, log: Logger): void {
  const { listening, admin, metrics, store, relay } = proxy;
  const { enforcement, audit } = settings;
  log.info(
    { listening, admin, metrics, policy: store.current.digest, audit, enforcement, relay },
    'listening',
  );
  if (enforcement === 'env')
    log.warn({ enforcement }, 'nothing but the environment keeps clients on this proxy');
  const shortage = descriptorShortage(settings);
  if (shortage !== undefined) log.warn(shortage, 'fewer file descriptors than the settings may need');
}
