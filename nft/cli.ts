// `sallyport fence`: its words and flags. Turns them into calls and errors into exit codes; decides nothing about rules.
import { Command, Option } from 'commander';
import { removeFence } from './apply.ts';
import { createBridgeReader } from './bridge.ts';
import { createNft } from './client.ts';
import { FenceError, type FenceErrorCode } from './errors.ts';
import { confirmTable } from './guard.ts';
import { underLock } from './lock.ts';
import { createResolvers } from './resolver.ts';
import { secondLinks } from './second-links.ts';
import { sessionPeer } from './session.ts';
import { readSpecFile, specDefaults, specFromFlags, type SpecFlags } from './spec-source.ts';
import { checkTable, type FenceSpec } from './spec.ts';
import { apply, exitCodes, plan, verify, watch, type FenceIo, type Verb, type VerbFlags } from './verbs.ts';

interface Flags extends SpecFlags, VerbFlags {
  readonly spec?: string;
}

/** The real thing; the folder is the one that runs use too. */
export function fenceIo(environment: Readonly<Record<string, string | undefined>> = {}): FenceIo {
  return {
    nft: createNft(),
    bridges: createBridgeReader(),
    resolvers: createResolvers(),
    secondLinks,
    folder: environment['SALLYPORT_STATE_DIR'] ?? '/run/sallyport',
    peer: async () => await sessionPeer(environment),
    stop: untilSignal,
    out: (text) => void process.stdout.write(`${text}\n`),
    err: (text) => void process.stderr.write(`${text}\n`),
    exit: (code) => {
      process.exitCode = code;
    },
  };
}

/**
 * The listeners stay: while a child of execa runs, its own listener ends this process by the signal when it finds nobody else listening, and one
 * that listens once is gone by then.
 */
function untilSignal(): AbortSignal {
  const control = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => control.abort());
  return control.signal;
}

/** The command `fence` with its subcommands, to be added to a program. Sets the exit code; never throws a FenceError. */
export function fenceCommand(io: FenceIo = fenceIo()): Command {
  const fence = new Command('fence').description(
    'the kernel fence: from a sandbox only the proxy is reachable',
  );
  fence.addCommand(withSpec(new Command('plan'), 'print the rules; asks and changes nothing', io, plan));
  fence.addCommand(
    withSpec(
      new Command('apply').option(
        '--confirm <time>',
        'go back after this time, such as 30s, unless it is confirmed',
      ),
      'put the rules into the kernel and read them back',
      io,
      apply,
    ),
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
  fence.addCommand(confirmCommand(io));
  fence.addCommand(removeCommand(io));
  for (const one of [fence, ...fence.commands])
    one.exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : exitCodes.usage));
  return fence.addHelpText('after', helpAfter);
}

function removeCommand(io: FenceIo): Command {
  return onTable('remove', 'remove our table; no error when it is already gone', io, async ({ table }) => {
    await underLock({ folder: io.folder, table: checkTable(table) }, async () => {
      const isBridged = (await io.nft.list(table, 'bridge')).length > 0;
      await removeFence(io.nft, table);
      if (isBridged) await io.resolvers.release(table);
    });
    return [{ table, removed: true }, `table inet ${table} is gone`];
  }).addHelpText(
    'after',
    '\nTake the link down first.\n\nExample:\n  sallyport fence remove --table sallyport_demo',
  );
}

function confirmCommand(io: FenceIo): Command {
  return onTable('confirm', 'keep what `apply --confirm` has put in place', io, async ({ table }) => {
    await confirmTable({ folder: io.folder, table: checkTable(table) });
    return [{ table, confirmed: true }, `table inet ${table} stays`];
  }).addHelpText(
    'after',
    '\nSay it from a new session: that it can be opened is the proof.\n\nExample:\n  sallyport fence confirm',
  );
}

interface TableFlags {
  readonly table: string;
  readonly json?: true;
}

function onTable(
  name: string,
  description: string,
  io: FenceIo,
  work: (flags: TableFlags) => Promise<readonly [facts: object, words: string]>,
): Command {
  return new Command(name)
    .description(description)
    .option('--table <name>', 'our table', specDefaults.table)
    .option('--json', 'print JSON')
    .action(async (flags: TableFlags) => {
      await ending(io, async () => {
        const [facts, words] = await work(flags);
        io.out(flags.json === true ? JSON.stringify(facts) : words);
        return exitCodes.ok;
      });
    });
}

function withSpec(command: Command, description: string, io: FenceIo, verb: Verb): Command {
  return command
    .description(description)
    .option('--spec <file>', 'the fence as JSON; instead of the flags for one sandbox')
    .addOption(flag('--interface <name>', "the host's end of the sandbox's link, or a bridge with several"))
    .addOption(flag('--address <ipv4>', "the sandbox's own address; without it, --interface is a bridge"))
    .addOption(flag('--subnet <cidr>', "network of a bridge's members (default: that of its own address)"))
    .addOption(flag('--proxy <ipv4[:port]>', 'the address on which the proxy listens for it'))
    .addOption(flag('--port <n...>', 'TCP port of the proxy or of a service listener; repeatable'))
    .addOption(
      flag(
        '--datagram <n...>',
        'UDP port of the proxy, such as 53 for its DNS stub; repeatable, not for a bridge',
      ),
    )
    .addOption(flag('--name <name>', 'name of the sandbox (default: "sandbox")'))
    .addOption(flag('--pool <cidr>', `network of all sandboxes (default: "${specDefaults.pool}")`))
    .option('--table <name>', `our table, over the one in the file (default: "${specDefaults.table}")`)
    .option('--json', 'print JSON')
    .action(async (flags: Flags) => {
      await ending(io, async () => await verb(io, await io.bridges.read(await readFlags(flags)), flags));
    })
    .addHelpText('after', specHelp(command.name()));
}

/** One of the flags that describe a sandbox, which a file would describe otherwise. */
function flag(name: string, text: string): Option {
  return new Option(name, text).conflicts('spec');
}

async function readFlags(flags: Flags): Promise<FenceSpec> {
  return flags.spec === undefined ? await specFromFlags(flags) : await readSpecFile(flags.spec, flags.table);
}

async function ending(io: FenceIo, work: () => Promise<number>): Promise<void> {
  try {
    io.exit(await work());
  } catch (error) {
    if (!(error instanceof FenceError)) throw error;
    io.err(`error: ${error.message}\nhelp: ${error.help}`);
    io.exit(codes.get(error.code) ?? exitCodes.cannot);
  }
}

const codes: ReadonlyMap<FenceErrorCode, number> = new Map([
  ['spec_invalid', exitCodes.usage],
  ['rolled_back', exitCodes.differs],
  ['busy', exitCodes.busy],
]);

const helpAfter = `
Exit status: 0 done or holds, 1 differs from the plan or rolled back, 2 bad use or bad spec, 69 the kernel refused or cannot be asked,
75 somebody else is at this table.

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
                     "proxy": "10.219.0.1", "ports": [3128, 443, 53], "datagrams": [53], "frames": true,
                     "services": [ { "address": "10.219.0.3", "ports": [5432] } ] } ],
    "networks": [ { "name": "agents", "interface": "br-agents", "subnet": "172.30.0.0/24",
                    "proxy": "172.30.0.2", "ports": [3128] } ] }

Examples:
  sallyport fence ${verb} --spec fence.json
  sallyport fence ${verb} --interface sp-demo --address 10.219.0.2 --proxy 10.219.0.1 --port 3128 --port 5432
  sallyport fence ${verb} --interface sp-demo --address 10.219.0.2 --proxy 10.219.0.1:3128 --port 443 53 --datagram 53
  sallyport fence ${verb} --interface br-agents --proxy 172.30.0.2:3128`;
}
