// Tries its share of the mutants against the gate's probes and prints a line of JSON for each: of a fence without UDP, and of what one with a
// DNS stub has more. Run in a namespace of the test: argv is the run id, the share's number, how many shares there are, and `services` for a fence
// with an address of their own instead: then only mutants of its rules.
import { makeRig, type Rig } from './rig.ts';
import { mutantsOf } from './mutate.ts';

const [id = '', share = '0', shares = '1', what = ''] = process.argv.slice(2);
/** The rules that let datagrams through, and the port of DNS in those for TCP: everything else is the same without them. */
const ofStub = /^(from|input|postrouting) (2: |1: (swapped|.* with))/;
/** Each rule about the address for services. */
const ofServices = /^(from|input|postrouting) 2: /;

if (what === 'services') {
  await tryMutants(await makeRig(id, { hasServices: true }), '', ofServices);
} else {
  await tryMutants(await makeRig(id), '', /^/);
  await tryMutants(await makeRig(`${id}s`, { datagrams: [53] }), 'with a stub: ', ofStub);
}

async function tryMutants(rig: Rig, prefix: string, pattern: RegExp): Promise<void> {
  const plainName = (name: string): string =>
    name.replaceAll(new RegExp(`(from|frames)_${rig.id}`, 'g'), '$1');
  const tell = (name: string, more: object): void => {
    console.log(JSON.stringify({ name: prefix + plainName(name), ...more }));
  };
  try {
    const all = mutantsOf(rig.plan, rig.table).filter(({ name }) => pattern.test(plainName(name)));
    const own = all.filter((_, i) => i % Number(shares) === Number(share));
    rig.load(rig.plan.nftables);
    tell('the fence as planned', { failed: await failures(rig), total: all.length });
    for (const { name, commands, after } of own) {
      for (const family of ['inet', 'netdev']) {
        const table = { family, name: rig.table };
        rig.load([{ add: { table } }, { delete: { table } }]);
      }
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
