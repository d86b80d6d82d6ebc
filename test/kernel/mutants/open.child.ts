// Tries the gate's probes twice, behind the fence as planned and with its rules flushed, and prints both results as JSON. Run in a namespace
// of the test: argv is the run id.
import { makeRig } from './rig.ts';
import { mutantsOf } from './mutate.ts';

const rig = await makeRig(process.argv[2] ?? '');
try {
  rig.load(rig.plan.nftables);
  const fenced = await rig.probe();
  const flushed = mutantsOf(rig.plan, rig.table).find(({ name }) => name === 'table: every rule flushed');
  rig.load(flushed?.commands ?? []);
  console.log(JSON.stringify({ fenced, open: await rig.probe() }));
} finally {
  await rig.release();
}
