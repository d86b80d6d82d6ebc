// `sallyport probe` as a command: tries the boundary of a live run again, from inside, and says what came out. Changes nothing that outlasts it.
import { Command } from 'commander';
import { probeCount, probeTable, type GateRecord } from './gate/index.ts';
import { lastingRecordFile } from './launch-gate.ts';
import { findLiveRun, probeRun, type LiveRun } from './live-run.ts';
import { stateDirectory, type Caller } from './options.ts';
import { RunRefused } from './refusal.ts';
import { errorText } from './report.ts';

interface ProbeFlags {
  readonly run?: string;
  readonly json?: true;
}

const exitStatus = { passed: 0, failed: 1 } as const;

/** The command; `caller` is who started this process. */
export function probeCommand(caller: Caller): Command {
  return new Command('probe')
    .description('try the boundary of a live run from inside, as its launch gate did')
    .option('--run <name>', 'name of the run; not needed when there is only one')
    .option('--json', 'print the record as JSON')
    .addHelpText(
      'after',
      `
Examples:
  sallyport probe
  sallyport probe --run review1 --json

What runs inside goes on and is not touched: the probes come from a process of their own, and only packets with their mark are looked at. They
are counted by the fence like any others. The record replaces the last one, beside the audit.
Exit status: 0 every probe passed, 1 one failed, 2 no such run, 69 the run cannot be looked at from here.`,
    )
    .action(async (flags: ProbeFlags) => {
      process.exitCode = await probeNow(caller, flags);
    });
}

async function probeNow(caller: Caller, flags: ProbeFlags): Promise<number> {
  try {
    if (caller.uid !== 0) throw new RunRefused('boundary', 'probing needs root', 'run it with sudo');
    const run = await findLiveRun(stateDirectory(caller), flags.run);
    const record = await probeRun(run);
    process.stdout.write(flags.json === true ? `${JSON.stringify(record)}\n` : `${wordsOf(record, run)}\n`);
    return exitStatus[record.result];
  } catch (error) {
    process.stderr.write(errorText(error));
    return error instanceof RunRefused ? error.exitCode : 69;
  }
}

function wordsOf({ run, probes, digest }: GateRecord, { note }: LiveRun): string {
  return [
    probeTable(probes),
    `run ${run}: ${probeCount(probes)}; record ${digest.slice(0, 12)} in ${lastingRecordFile(note.audit)}`,
  ].join('\n');
}
