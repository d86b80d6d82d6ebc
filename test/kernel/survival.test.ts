// What happens when a part of a standing boundary fails, one test for each row of that table in docs/operations.md: with a root inside that never stops
// sending, and receivers wherever it could get. That they would notice is shown last, with the fence away. The events are in survival/.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../helpers/needs.ts';
import { entry } from '../helpers/proxy-process.ts';
import { byHandLink, byHandTable, makeByHand } from './survival/by-hand.ts';
import { kernelEvents, madeAnew } from './survival/events-kernel.ts';
import { machineEvents } from './survival/events-machine.ts';
import { killed, proxyEvents, served, workerCrash } from './survival/events-proxy.ts';
import { makeGrounds, nowhere } from './survival/grounds.ts';
import { laySiege, siegeNames } from './survival/siege.ts';
import { until } from './survival/until.ts';
import { worldNeeds } from './world.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

const events = { ...kernelEvents, ...machineEvents, ...proxyEvents, ...madeAnew };
const titles = [...Object.keys(events), killed.title, workerCrash.title];

t.test(
  'each row of the table in docs/operations.md is an event of this test, and each event a row',
  async (t) => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
    const [, section = ''] = page.split('## What happens when a part fails\n');
    const [table = ''] = section.split('\n## ');
    const rows = [...table.matchAll(/^\| \*\*(.+?)\*\* \|/gm)].map(([, event = '']) => event);
    t.same(rows.toSorted(), titles.toSorted());
  },
);

const skip = needs(t, [...worldNeeds, 'cc', 'mount', 'prlimit', 'ss', 'ipv6']);

t.test('a boundary under attack: no packet but to the proxy leaves it', { skip }, async (t) => {
  const ports = 'tcp dport { 3128, 5432 }';
  const grounds = await makeGrounds(t, (world) => [
    { name: siegeNames((word) => world.name(word)).link, ports: [ports, 'udp dport 53'] },
    { name: byHandLink, ports: [ports] },
  ]);
  const { world, arrivedMeanwhile, receivers } = grounds;
  const siege = await laySiege(t, grounds);
  const byHand = await makeByHand(t, grounds);
  const { cell, table, page } = siege;
  await cell.ipv6('on');
  await cell.attack();

  for (const [title, event] of Object.entries(events))
    await t.test(title, async (t) => {
      await event(t, siege);
      t.same(await arrivedMeanwhile(table), nowhere);
      await until(async () => (await cell.ask()) === served);
      t.match(await page('readyz'), /"ready"/);
    });

  await t.test(workerCrash.title, async (t) => {
    await byHand.cell.attack();
    await workerCrash.event(t, byHand);
    t.same(await arrivedMeanwhile(byHand.table), nowhere);
  });

  await t.test(killed.title, async (t) => {
    await killed.event(t, siege);
    t.same(await arrivedMeanwhile(table), nowhere);
  });

  await t.test('a run that ends without nft says what it left, and a sweep finds it', async (t) => {
    const from = siege.run.lines.length;
    await world.host.must([...siege.beside, 'mv', '/usr/sbin/nft', `${world.dir}/layers/nft`]);
    siege.run.child.kill('SIGTERM');
    await siege.run.ended;
    t.match(siege.run.lines.slice(from).join('\n'), `table ${table} could not be given back`);
    t.match(await world.host.must(['nft', 'list', 'tables']), table);
    const env = { ...process.env, SALLYPORT_STATE_DIR: world.state };
    const reclaim = [process.execPath, entry, 'reclaim'];
    const early = await world.host.run(reclaim, { env: { ...env, PATH: '/usr/bin:/bin' } });
    t.equal(early.code, 69, 'a sweep that finds no nft either');
    t.match(early.stderr, /launch gate: .*nft/);
    t.match(await world.host.must(reclaim, { env }), /^reclaimed: /, 'does not forget the run');
    t.notMatch(await world.host.must(['nft', 'list', 'tables']), table);
  });

  await t.test('without a fence the same packets arrive at every receiver (control)', async () => {
    await world.host.must(['nft', 'delete', 'table', 'inet', byHandTable]);
    const isHeard = (counts: Readonly<Record<string, number>>): boolean =>
      ['tcp', 'udp', 'icmp', 'ipv6'].every((kind) => (counts[kind] ?? 0) > 0);
    for (const { counts } of Object.values(receivers)) await until(async () => isHeard(await counts()));
  });
});
