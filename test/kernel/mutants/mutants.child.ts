// Tries its share of the mutants against the gate's probes and prints a line of JSON for each: of a fence without UDP, and of what one with a
// DNS stub has more. Run in a namespace of the test: argv is the run id, the share's number and how many shares there are.
import { makeRig, type Rig } from './rig.ts';
import { mutantsOf } from './mutate.ts';

const [id = '', share = '0', shares = '1', only = ''] = process.argv.slice(2);
/** The rules that let datagrams through, and the port of DNS in those for TCP: everything else is the same without them. */
const ofStub = /^(from|input|postrouting) (2: |1: (swapped|.* with))/;

await tryMutants(await makeRig(id), '', /^/);
await tryMutants(await makeRig(`${id}s`, [53]), 'with a stub: ', ofStub);

async function tryMutants(rig: Rig, prefix: string, pattern: RegExp): Promise<void> {
  try {
    const all = mutantsOf(rig.plan, rig.table).filter(({ name }) =>
      pattern.test(name.replace(`from_${rig.id}`, 'from')),
    );
    const own = all
      .filter((_, i) => i % Number(shares) === Number(share))
      .filter(({ name }) => name.includes(only));
    const tell = (name: string, more: object): void => {
      console.log(JSON.stringify({ name: prefix + name.replaceAll(`from_${rig.id}`, 'from'), ...more }));
    };
    rig.load(rig.plan.nftables);
    tell('the fence as planned', { failed: await failures(rig), total: all.length });
    for (const { name, commands, after } of own) {
      const table = { family: 'inet', name: rig.table };
      rig.load([{ add: { table } }, { delete: { table } }]);
      rig.load(commands, after);
      tell(name, { failed: await failures(rig) });
    }
  } finally {
    await rig.release();
  }
}

/** The ids of the probes that notice. */
async function failures(rig: Rig): Promise<readonly string[]> {
  try {
    return (await rig.probe(true)).filter(({ verdict }) => verdict === 'fail').map((one) => one.id);
  } catch (error) {
    return [`error: ${error instanceof Error ? error.message : String(error)}`];
  }
}
