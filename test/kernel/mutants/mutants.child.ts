// Tries its share of the mutants against the gate's probes and prints a line of JSON for each. Run in a namespace of the test: argv is the
// run id, the share's number, how many shares there are, and `services` for a fence with an address of their own: then only mutants of its rules.
import { makeRig } from './rig.ts';
import { mutantsOf } from './mutate.ts';

const [id = '', share = '0', shares = '1', what = ''] = process.argv.slice(2);
const rig = await makeRig(id, what === 'services');
try {
  const all = mutantsOf(rig.plan, rig.table).filter(
    ({ name }) => what !== 'services' || rig.serviceRules.some((rule) => name.startsWith(`${rule}: `)),
  );
  const own = all.filter((_, i) => i % Number(shares) === Number(share));
  rig.load(rig.plan.nftables);
  console.log(JSON.stringify({ name: 'the fence as planned', failed: await failures(), total: all.length }));
  for (const { name, commands, after } of own) {
    for (const family of ['inet', 'netdev']) {
      const table = { family, name: rig.table };
      rig.load([{ add: { table } }, { delete: { table } }]);
    }
    rig.load(commands, after);
    console.log(JSON.stringify({ name, failed: await failures() }));
  }
} finally {
  await rig.release();
}

/** The ids of the probes that notice. */
async function failures(): Promise<readonly string[]> {
  try {
    return (await rig.probe(true)).filter(({ verdict }) => verdict === 'fail').map((one) => one.id);
  } catch (error) {
    return [`error: ${error instanceof Error ? error.message : String(error)}`];
  }
}
