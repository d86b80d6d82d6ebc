// `sallyport fence`: plan, apply, verify, remove by hand. Turns words into calls and answers into exit codes; decides nothing about rules.
import { Command, Option } from 'commander';
import { applyFence, removeFence } from './apply.ts';
import { createNft } from './client.ts';
import { readDrops } from './drops.ts';
import { FenceError } from './errors.ts';
import { planFence } from './fence.ts';
import { printDrops, printPlan } from './print.ts';
import { readSpecFile, specDefaults, specFromFlags, type SpecFlags } from './spec-source.ts';
import type { FenceSpec } from './spec.ts';
import type { Nft } from './transaction.ts';
import { verifyFence } from './verify.ts';

/** Ends: 0 done or holds, 1 the kernel differs from the plan, 2 bad use or bad spec, 69 the kernel cannot be asked or refused. */
const exitCodes = { ok: 0, differs: 1, usage: 2, cannot: 69 } as const;

/** What a command works with; tests give a fake nft and their own ears. */
export interface FenceIo {
  readonly nft: Nft;
  out(text: string): void;
  err(text: string): void;
  exit(code: number): void;
}

interface Flags extends SpecFlags {
  readonly spec?: string;
  readonly json?: true;
}

const realIo: FenceIo = {
  nft: createNft(),
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
  exit: (code) => {
    process.exitCode = code;
  },
};

/** The command `fence` with its four subcommands, to be added to a program. Sets the exit code; never throws a FenceError. */
export function fenceCommand(io: FenceIo = realIo): Command {
  const fence = new Command('fence').description(
    'the kernel fence: from a sandbox only the proxy is reachable',
  );
  fence.addCommand(withSpec(new Command('plan'), 'print the rules; asks and changes nothing', io, plan));
  fence.addCommand(
    withSpec(new Command('apply'), 'put the rules into the kernel and read them back', io, apply),
  );
  fence.addCommand(withSpec(new Command('verify'), "compare the kernel's rules with the plan", io, verify));
  fence.addCommand(removeCommand(io));
  for (const one of [fence, ...fence.commands])
    one.exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : exitCodes.usage));
  return fence.addHelpText('after', helpAfter);
}

async function plan(io: FenceIo, spec: FenceSpec, json: boolean): Promise<number> {
  const tx = planFence(spec);
  io.out(json ? JSON.stringify(tx, null, 2) : printPlan(tx));
  return exitCodes.ok;
}

async function apply(io: FenceIo, spec: FenceSpec, json: boolean): Promise<number> {
  await applyFence(io.nft, spec);
  const interfaces = spec.sandboxes.map((one) => one.interface);
  const words = `table inet ${spec.table} is in place and reads back as planned, around ${interfaces.join(', ')}`;
  io.out(json ? JSON.stringify({ table: spec.table, applied: true, interfaces }) : words);
  return exitCodes.ok;
}

async function verify(io: FenceIo, spec: FenceSpec, json: boolean): Promise<number> {
  const differences = await verifyFence(io.nft, spec);
  const holds = differences.length === 0;
  const drops = holds ? await readDrops(io.nft, spec.table) : new Map<string, number>();
  const words = holds
    ? [`table inet ${spec.table} holds`, printDrops(drops)]
    : [`table inet ${spec.table} differs from the plan:`, ...differences.map((one) => `  ${one}`)];
  io.out(
    json
      ? JSON.stringify({ table: spec.table, holds, differences, drops: Object.fromEntries(drops) })
      : words.join('\n'),
  );
  return holds ? exitCodes.ok : exitCodes.differs;
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

type Verb = (io: FenceIo, spec: FenceSpec, json: boolean) => Promise<number>;

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
      await ending(io, async () => await verb(io, await readFlags(flags), flags.json === true));
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
