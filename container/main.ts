// The `sallyport` command: finds the subcommand, loads only that one, and hands it the environment. Does nothing itself.
import { Command, CommanderError } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { exitCodes, RunRefused } from './refusal.ts';
import { refusedReport } from './report.ts';
import type { Caller } from './options.ts';

interface Subcommand {
  readonly name: string;
  readonly summary: string;
  load(caller: Caller): Promise<Command>;
}

/** Every subcommand; each is loaded when it is asked for, so that help is quick. */
const subcommands: readonly Subcommand[] = [
  {
    name: 'run',
    summary: 'run a command behind the fence: its only way out is the proxy',
    load: async (caller) => (await import('./index.ts')).runCommand(caller),
  },
  {
    name: 'proxy',
    summary: 'run the allowlisting proxy alone, as a sidecar',
    load: async (caller) => (await import('../proxy/index.ts')).proxyCommand(caller.environment),
  },
  {
    name: 'config',
    summary: "show the proxy's settings and where each comes from",
    load: async (caller) => (await import('../proxy/index.ts')).configCommand(caller.environment),
  },
  {
    name: 'fence',
    summary: 'plan, apply, confirm, verify, watch or remove the kernel fence by hand',
    load: async ({ environment }) => {
      const { fenceCommand, fenceIo } = await import('../nft/index.ts');
      return fenceCommand(fenceIo(environment));
    },
  },
  {
    name: 'probe',
    summary: 'try the boundary of a live run from inside, as its launch gate did',
    load: async (caller) => (await import('./index.ts')).probeCommand(caller),
  },
  {
    name: 'reclaim',
    summary: 'give back what killed runs left',
    load: async (caller) => (await import('./index.ts')).reclaimCommand(caller),
  },
  {
    name: 'doctor',
    summary: 'check what this machine lacks, with the fixing command',
    load: async (caller) => (await import('./doctor.ts')).doctorCommand(caller.environment),
  },
];

const helpText = `
Examples:
  sallyport run -- curl -sS https://api.github.com
  sallyport run --policy team.nix --timeout 3600 -- claude -p "fix the tests"
  sallyport proxy --policy policy.json --listen 127.0.0.1:3128
  sallyport doctor

Exit status of \`run\`: the command's own, except
${exitCodes.map(({ code, sentence }) => `  ${String(code).padStart(3)}  ${sentence}`).join('\n')}
Of the others: 0 done, 1 the answer is no, 2 bad use, 69 this machine cannot.

\`sallyport <command> --help\` shows the options of one. To ask what the policy says: \`policy check <domain>\`.`;

/** Carries out `argv` (without node and script) and gives the exit status; commands may also set process.exitCode. */
export async function main(argv: readonly string[], caller: Caller): Promise<void> {
  const words = argv[0] === 'help' && argv.length === 2 ? [argv[1] ?? '', '--help'] : argv;
  const isJson = wantsReport(words);
  const program = new Command('sallyport')
    .description("the one guarded way out of an agent's sandbox")
    .version(manifest.version)
    .enablePositionalOptions()
    .showHelpAfterError('help: `sallyport --help` lists the commands')
    .addHelpText('after', helpText)
    .exitOverride();
  for (const one of subcommands) {
    if (one.name === words[0])
      program.addCommand(endTogether(await one.load(caller), `sallyport ${one.name}`, isJson));
    else program.command(one.name).description(one.summary);
  }
  try {
    await program.parseAsync(words, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    if (isJson && error.exitCode !== 0) process.stderr.write(jsonOf(error));
  }
}

/** Whether `sallyport run --json` was asked for, in words that may be wrong. What follows `--` is the command's. */
function wantsReport(words: readonly string[]): boolean {
  const end = words.indexOf('--');
  return words[0] === 'run' && words.slice(1, end === -1 ? undefined : end).includes('--json');
}

function jsonOf(error: CommanderError): string {
  const message = error.message.replace(/^error: /, '');
  const refusal = new RunRefused('usage', message, '`sallyport run --help` lists the flags');
  return `${JSON.stringify(refusedReport(refusal, Math.round(performance.now()) / 1000, []))}\n`;
}

/** Commander's own ends (bad option, help) come back as errors instead of leaving the process half-way, and say where the help is. */
function endTogether(command: Command, path: string, isSilent: boolean): Command {
  for (const below of command.commands) endTogether(below, `${path} ${below.name()}`, isSilent);
  if (isSilent) command.configureOutput({ writeErr: () => undefined });
  const what = command.commands.length > 0 ? 'commands' : 'flags';
  return command.exitOverride().showHelpAfterError(`help: \`${path} --help\` lists the ${what}`);
}

if (import.meta.main) {
  // A reader such as `head` may close early; what is left to do, giving back above all, is still done.
  process.stdout.on('error', () => undefined);
  process.stderr.on('error', () => undefined);
  await main(process.argv.slice(2), { environment: process.env, uid: process.geteuid?.() ?? 0 });
}
