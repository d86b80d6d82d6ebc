// What a machine may run out of under a run: descriptors, room for the audit, and a steady clock.
import type { Test } from 'tap';
import { assertAuditLines } from '../../helpers/audit.ts';
import { served } from './events-proxy.ts';
import type { Siege } from './siege.ts';
import { until } from './until.ts';

type Event = (t: Test, siege: Siege) => Promise<void>;

const day = 86_400;
/** Clock ticks: a quarter of a second, while a proxy that spins takes all there is. */
const idleTicks = 25;

export const machineEvents: Readonly<Record<string, Event>> = {
  async 'the proxy has no descriptor left'(t, siege) {
    const { cell, proxy, page } = siege;
    const tunnel = await cell.tunnel();
    await proxy.limit(proxy.descriptors() + 20);
    const many = await cell.tunnels(40);
    t.ok(many.open >= 5 && many.open <= 10, `${many.open} tunnels, two descriptors each`);
    // Whether curl has seen the connection by then or not.
    t.match(await cell.ask(), /^(7|56) 000 000$/, 'a new client is reset');
    t.ok(await tunnel.echoes(), 'a tunnel goes on');
    const before = proxy.ticks();
    for (let n = 0; n < 5; n += 1) await siege.arrivedMeanwhile(siege.table);
    t.ok(proxy.ticks() - before < idleTicks, `${proxy.ticks() - before} ticks: it does not spin`);
    await many.close();
    await until(async () => (await cell.ask()) === served);
    t.match(await page('metrics'), /^sallyport_accept_failures_total [1-9]/m);
    t.match(await page('metrics'), /^sallyport_bugs_total\{stage="accept"\} 0$/m);
    await proxy.limit(4096);
  },

  async 'the disk of the audit is full'(t, { world, cell, beside, disk, page, audit }) {
    const tunnel = await cell.tunnel();
    await world.host.run([...beside, 'sh', '-c', 'cat /dev/zero >"$1/fill"', 'sh', disk]);
    await until(async () => (await cell.ask()) === '56 503 000');
    t.match(await page('readyz'), /audit_unavailable.*ENOSPC/);
    t.match(await page('metrics'), /^sallyport_audit_ok 0$/m);
    t.ok(await tunnel.echoes(), 'who is on record goes on');
    await world.host.must([...beside, 'rm', `${disk}/fill`]);
    t.equal(await cell.ask(), served);
    const lines = assertAuditLines(t, audit());
    t.ok(lines.some((line) => line.event === 'close' && line.reason === 'audit_unavailable'));
  },

  async 'the clock jumps'(t, { cell, clock, page, audit, run }) {
    const tunnel = await cell.tunnel();
    for (const jump of [400 * day, -400 * day]) {
      const finish = await cell.half();
      clock.set(jump);
      t.equal(await finish(), 'HTTP/1.1 200 Connection established', 'a client in its time is in its time');
      t.equal(await cell.ask(), served);
      t.ok(await tunnel.echoes(), 'a tunnel is not idle for a year');
      t.match(await page('metrics'), /^sallyport_policy_age_seconds \d{1,3}(\.\d+)?$/m);
      const { time } = assertAuditLines(t, audit()).at(-1) ?? { time: '' };
      t.ok(Math.abs(Date.parse(time) - Date.now() - jump * 1000) < day * 1000, `the audit is of ${time}`);
    }
    clock.set(0);
    t.equal(run.child.exitCode, null, '--timeout has not come');
  },
};
