// `npm run bench`: measures Sallyport beside other proxies on this machine, prints the tables and writes docs/benchmarks.md.
//   --quick          a smoke run of under a minute; writes no page
//   --only NAMES     peers, by comma          --measures NAMES  measures, by comma
//   --rounds N       readings of each figure  --json FILE       every reading
// Client, upstream and proxy are processes of their own in a network namespace; load/ is the native load generator, peers/ what is measured,
// measures/ how. Exit status: 0 all runs were clean, 1 some lost bytes or tunnels, 64 bad use, 69 this machine cannot.
import { compileLoad, MissingTool } from './load/index.ts';
import { readOptions } from './options.ts';
import { bench } from './bench.ts';
import { describeWorld, enterWorld, isInside } from './world.ts';

process.exitCode = await main();

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if ('problem' in options) {
    console.error(options.problem);
    return 64;
  }
  if (isInside()) return await bench(options, describeWorld());
  try {
    compileLoad();
    return await enterWorld();
  } catch (error) {
    if (!(error instanceof MissingTool)) throw error;
    console.error(error.message);
    return 69;
  }
}
