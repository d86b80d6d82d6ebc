// The `sallyport` command: finds the subcommand, loads only that one, and hands it the environment. Does nothing itself.
import { Command, CommanderError } from 'commander';
import { exitCodes } from './refusal.ts';
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
    summary: 'plan, apply, verify or remove the kernel fence by hand',
    load: async () => (await import('../nft/index.ts')).fenceCommand(),
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
  const program = new Command('sallyport')
    .description("the one guarded way out of an agent's sandbox")
    .enablePositionalOptions()
    .addHelpText('after', helpText)
    .exitOverride();
  for (const one of subcommands) {
    if (one.name === words[0]) program.addCommand(endTogether(await one.load(caller)));
    else program.command(one.name).description(one.summary);
  }
  try {
    await program.parseAsync(words, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  }
}

/** Commander's own ends (bad option, help) come back as errors instead of leaving the process half-way. */
function endTogether(command: Command): Command {
  for (const below of command.commands) endTogether(below);
  return command.exitOverride();
}

if (import.meta.main) {
  // A reader such as `head` may close early; what is left to do is still done.
  process.stdout.on('error', () => undefined);
  await main(process.argv.slice(2), { environment: process.env, uid: process.geteuid?.() ?? 0 });
}
