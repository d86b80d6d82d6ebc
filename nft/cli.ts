// `sallyport fence`: its words and flags. Turns them into calls and errors into exit codes; decides nothing about rules.
import { Command, Option } from 'commander';
import { removeFence } from './apply.ts';
import { createNft } from './client.ts';
import { FenceError } from './errors.ts';
import { readSpecFile, specDefaults, specFromFlags, type SpecFlags } from './spec-source.ts';
import type { FenceSpec } from './spec.ts';
import { apply, exitCodes, plan, verify, watch, type FenceIo, type Verb, type VerbFlags } from './verbs.ts';

interface Flags extends SpecFlags, VerbFlags {
  readonly spec?: string;
}

const realIo: FenceIo = {
  nft: createNft(),
  stop: untilSignal,
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
  exit: (code) => {
    process.exitCode = code;
  },
};

function untilSignal(): AbortSignal {
  const control = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => control.abort());
  return control.signal;
}

/** The command `fence` with its subcommands, to be added to a program. Sets the exit code; never throws a FenceError. */
export function fenceCommand(io: FenceIo = realIo): Command {
  const fence = new Command('fence').description(
    'the kernel fence: from a sandbox only the proxy is reachable',
  );
  fence.addCommand(withSpec(new Command('plan'), 'print the rules; asks and changes nothing', io, plan));
  fence.addCommand(
    withSpec(new Command('apply'), 'put the rules into the kernel and read them back', io, apply),
  );
  fence.addCommand(withSpec(new Command('verify'), "compare the kernel's rules with the plan", io, verify));
  fence.addCommand(
    withSpec(
      new Command('watch').option(
        '--admin <path>',
        'admin socket of the proxy, to cut tunnels and show metrics',
      ),
      'keep the rules as planned: repair, or take the link down',
      io,
      watch,
    ),
  );
  fence.addCommand(removeCommand(io));
  for (const one of [fence, ...fence.commands])
    one.exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : exitCodes.usage));
  return fence.addHelpText('after', helpAfter);
}

function removeCommand(io: FenceIo): Command {
  return new Command('remove')
    .description('remove our table; no error when it is already gone')
    .option('--table <name>', 'our table', specDefaults.table)
    .option('--json', 'print JSON')
    .action(async ({ table, json }: { readonly table: string; readonly json?: true }) => {
      await ending(io, async () => {
        await removeFence(io.nft, table);
        io.out(json === true ? JSON.stringify({ table, removed: true }) : `table inet ${table} is gone`);
        return exitCodes.ok;
      });
    })
    .addHelpText(
      'after',
      '\nTake the link down first.\n\nExample:\n  sallyport fence remove --table sallyport_demo',
    );
}

function withSpec(command: Command, description: string, io: FenceIo, verb: Verb): Command {
  return command
    .description(description)
    .option('--spec <file>', 'the fence as JSON; instead of the flags for one sandbox')
    .addOption(flag('--interface <name>', "the host's end of the sandbox's link"))
    .addOption(flag('--address <ipv4>', "the sandbox's own address"))
    .addOption(flag('--proxy <ipv4>', 'the address on which the proxy listens for it'))
    .addOption(flag('--port <n...>', 'TCP port of the proxy or of a service listener; repeatable'))
    .addOption(flag('--name <name>', 'name of the sandbox (default: "sandbox")'))
    .addOption(flag('--pool <cidr>', `network of all sandboxes (default: "${specDefaults.pool}")`))
    .option('--table <name>', `our table, over the one in the file (default: "${specDefaults.table}")`)
    .option('--json', 'print JSON')
    .action(async (flags: Flags) => {
      await ending(io, async () => await verb(io, await readFlags(flags), flags));
    })
    .addHelpText('after', specHelp(command.name()));
}

/** One of the flags that describe a sandbox, which a file would describe otherwise. */
function flag(name: string, text: string): Option {
  return new Option(name, text).conflicts('spec');
}

async function readFlags(flags: Flags): Promise<FenceSpec> {
  return flags.spec === undefined ? specFromFlags(flags) : await readSpecFile(flags.spec, flags.table);
}

async function ending(io: FenceIo, work: () => Promise<number>): Promise<void> {
  try {
    io.exit(await work());
  } catch (error) {
    if (!(error instanceof FenceError)) throw error;
    io.err(`error: ${error.message}\nhelp: ${error.help}`);
    io.exit(error.code === 'spec_invalid' ? exitCodes.usage : exitCodes.cannot);
  }
}

const helpAfter = `
Exit status: 0 done or holds, 1 differs from the plan, 2 bad use or bad spec, 69 the kernel refused or cannot be asked.

Examples:
  sallyport fence plan --spec fence.json
  sallyport fence apply --interface sp-demo --address 10.219.0.2 --proxy 10.219.0.1 --port 3128
  sallyport fence verify --spec fence.json --json
  sallyport fence watch --spec fence.json --admin /run/sallyport.sock
  sallyport fence remove`;

function specHelp(verb: string): string {
  return `
The file:
  { "table": "sallyport", "pool": "10.219.0.0/16",
    "sandboxes": [ { "name": "demo", "interface": "sp-demo", "address": "10.219.0.2",
                     "proxy": "10.219.0.1", "ports": [3128, 5432] } ] }

Examples:
  sallyport fence ${verb} --spec fence.json
  sallyport fence ${verb} --interface sp-demo --address 10.219.0.2 --proxy 10.219.0.1 --port 3128 --port 5432`;
}
