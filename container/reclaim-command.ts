// `sallyport reclaim` as a command: sweeps dead runs now instead of at the next start.
import { Command } from 'commander';
import { stateDirectory, type Caller } from './options.ts';
import { sweep } from './reclaim.ts';
import { prepareState } from './state.ts';

/** The command; `caller` is who started this process. */
export function reclaimCommand(caller: Caller): Command {
  return new Command('reclaim')
    .description('give back what killed runs left: processes, namespaces, links, rules, directories')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      `
Examples:
  sallyport reclaim
  sallyport reclaim --json

Every run does this first, so it is only needed when no other run follows. Runs that are alive are not touched.
Exit status: 0 nothing is left, 69 something could not be given back or needs root.`,
    )
    .action(async (flags: { json?: boolean }) => {
      process.exitCode = await reclaimNow(caller, flags.json ?? false);
    });
}

async function reclaimNow(caller: Caller, isJson: boolean): Promise<number> {
  if (caller.uid !== 0) {
    process.stderr.write('sallyport: reclaiming namespaces and rules needs root\nhelp: run it with sudo\n');
    return 69;
  }
  const { reclaimed, elsewhere, failures } = await sweep(await prepareState(stateDirectory(caller)));
  const failed = failures.map(({ id, name, error }) => ({ run: id, part: name, error: String(error) }));
  if (isJson) process.stdout.write(`${JSON.stringify({ reclaimed, elsewhere, failed })}\n`);
  else {
    process.stdout.write(
      reclaimed.length === 0 ? 'nothing to reclaim\n' : `reclaimed: ${reclaimed.join(', ')}\n`,
    );
    if (elsewhere.length > 0)
      process.stdout.write(`in another network namespace, to be reclaimed there: ${elsewhere.join(', ')}\n`);
    for (const { run, part, error } of failed)
      process.stderr.write(`sallyport: run ${run}: ${part}: ${error}\n`);
  }
  return failed.length === 0 ? 0 : 69;
}
