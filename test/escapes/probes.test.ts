// Every probe of the launch gate with its control: behind the fence none passes and each is counted, without it the very same one passes.
// Leaves the table of both for `npm run test:kernel`, which prints it.
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ProbeResult } from '../../container/gate/result.ts';
import { makeNetns, type Netns } from '../helpers/netns.ts';
import { needs } from '../helpers/needs.ts';
import { gateNeeds } from '../kernel/world.ts';
import { keepRows, type ProbeRow } from '../tools/probe-report.ts';

const child = join(import.meta.dirname, '../kernel/mutants/open.child.ts');
/** Not packets of the table: they say what belongs to no one probe. */
const others = new Set([
  'allowed-name',
  'proxy-reachable',
  'denied-name',
  'counted-once',
  'nothing-else',
  'nothing-left',
]);

t.setTimeout(120_000);

/** A machine with rules of its own: connection tracking, reverse path filters, nothing forwarded, everything masqueraded. */
const ownRules = [
  'add table ip filter',
  'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }',
  'add rule ip filter FORWARD ct state established accept',
  'add table inet rp',
  'add chain inet rp c { type filter hook prerouting priority -140; }',
  'add rule inet rp c fib saddr . iif oif missing drop',
  'add table ip nat',
  'add chain ip nat c { type nat hook postrouting priority 100; }',
  'add rule ip nat c masquerade random',
].join('; ');

t.test(
  'failures 39, 41, 53: what the fence stops would pass without it',
  { skip: needs(t, gateNeeds) },
  async (t) => {
    const bare = await makeNetns(t, 'open');
    const kept: ProbeRow[] = [];
    await t.test('on a bare machine', async (t) => void kept.push(...(await compare(t, bare))));
    const strict = await makeNetns(t, 'strict');
    await strict.must(['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter']);
    await strict.must(['nft', ownRules]);
    await t.test(
      'on a machine with rules of its own',
      async (t) => void kept.push(...(await compare(t, strict))),
    );
    keepRows(kept);
  },
);

async function compare(t: Test, host: Netns): Promise<readonly ProbeRow[]> {
  const out = await host.must([process.execPath, child, `o${host.name.slice(-6)}`], { timeoutMs: 60_000 });
  const { fenced, open } = JSON.parse(out) as Record<'fenced' | 'open', readonly ProbeResult[]>;
  const rows = fenced.filter(({ id }) => !others.has(id));
  const control = new Map(open.map((one) => [one.id, one]));
  t.ok(rows.length > 80, `${rows.length} probes`);
  t.same(
    rows.filter(({ verdict }) => verdict !== 'pass').map(({ id, signal }) => `${id}: ${signal}`),
    [],
    'behind the fence',
  );
  const silent = rows.filter(({ id, signal }) => {
    const isControl = signal.endsWith(' as they must');
    const said = control.get(id);
    return isControl
      ? said?.verdict !== 'pass'
      : !/\d passed the fence|packets passed/.test(said?.signal ?? '');
  });
  t.same(
    silent.map(({ id }) => `${id}: ${control.get(id)?.signal}`),
    [],
    'without a fence each of them passes',
  );
  return rows.map((fenced) => ({ machine: t.name, fenced, open: control.get(fenced.id) }));
}
