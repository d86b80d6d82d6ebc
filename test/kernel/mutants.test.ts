// The launch gate's probes against every broken fence: each mutant of the planned ruleset is loaded into a real kernel, and some probe must
// notice. By packets alone: nothing reads the rules back. The few that no packet can tell from the fence are listed with their reasons.
import { join } from 'node:path';
import t from 'tap';
import { makeNetns } from '../helpers/netns.ts';
import { needs } from '../helpers/needs.ts';
import { equivalents, serviceEquivalents } from './mutants/equivalent.ts';
import { gateNeeds } from './world.ts';

interface Verdict {
  readonly name: string;
  readonly failed: readonly string[];
  readonly total?: number;
}

const shares = 2;
const child = join(import.meta.dirname, 'mutants/mutants.child.ts');

t.setTimeout(600_000);

t.test('no mutant of the fence survives the launch gate', { skip: needs(t, gateNeeds) }, async (t) => {
  const runs = Array.from({ length: shares }, async (_, share) => await tryShare(t, share, shares));
  const verdicts = (await Promise.all(runs)).flat();
  const [planned, mutants] = [
    verdicts.filter(({ total }) => total !== undefined),
    verdicts.filter(({ total }) => total === undefined),
  ];
  t.same(
    planned.map(({ failed }) => failed),
    Array.from({ length: 2 * shares }, () => []),
    'the fence as planned passes: a mutant is noticed for what it is',
  );
  const totals = planned.map(({ total = 0 }) => total / shares);
  t.equal(
    mutants.length,
    totals.reduce((sum, total) => sum + total, 0),
    'every mutant was tried',
  );
  const unnoticed = mutants.filter(({ failed }) => failed.length === 0).map(({ name }) => name);
  const surviving = unnoticed.filter((name) => !equivalents.some(({ pattern }) => pattern.test(name)));
  t.comment(
    `${mutants.length} mutants, ${mutants.length - unnoticed.length} killed, ${unnoticed.length - surviving.length} equivalent, ${surviving.length} survived`,
  );
  t.same(surviving, []);
  for (const { pattern, count, because } of equivalents)
    t.equal(unnoticed.filter((name) => pattern.test(name)).length, count, `${pattern.source}: ${because}`);
});

t.test(
  'nor does one of the rules for an address that services have to themselves',
  { skip: needs(t, gateNeeds) },
  async (t) => {
    const [planned, ...mutants] = await tryShare(t, 0, 1, 'services');
    t.same(planned?.failed, [], 'the fence as planned passes');
    t.equal(mutants.length, planned?.total);
    t.ok(mutants.length > 40, String(mutants.length));
    const surviving = mutants.filter(({ failed }) => failed.length === 0).map(({ name }) => name);
    t.same(surviving.toSorted(), serviceEquivalents);
  },
);

/** Of `of` shares; `what` is as mutants.child.ts has it. */
async function tryShare(
  t: Parameters<typeof makeNetns>[0],
  share: number,
  of: number,
  what = '',
): Promise<readonly Verdict[]> {
  const host = await makeNetns(t, 'mutants');
  const id = `m${host.name.slice(-6)}${share}`;
  const out = await host.must([process.execPath, child, id, String(share), String(of), what], {
    timeoutMs: 570_000,
  });
  return out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Verdict);
}
