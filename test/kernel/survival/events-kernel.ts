// What may happen to a run's part in the kernel: its table, its link, its namespace, and the program that reads the rules.
import { readFileSync } from 'node:fs';
import type { Test } from 'tap';
import { nowhere } from './grounds.ts';
import type { Siege } from './siege.ts';
import { until } from './until.ts';

type Event = (t: Test, siege: Siege) => Promise<void>;

export const kernelEvents: Readonly<Record<string, Event>> = {
  async 'the table is flushed'(t, siege) {
    const { cell, receivers } = siege;
    await cell.ipv6('off'); // as every run has it
    await cell.tunnel();
    for (let n = 0; n < 3; n += 1) await siege.flush();
    const { outside, near } = nowhere;
    t.match(await siege.arrived(), { outside, near }, 'nothing is routed on, not even in between');
    await until(() => countCut(siege.audit()) > 0);
    await until(async () => /^sallyport_fence_breaks_total [1-9]/m.test(await siege.page('metrics')));
    await cell.ipv6('on');
    await siege.arrivedMeanwhile(siege.table);
    // In between this machine's own ports were open to it: the one thing that a lost table means.
    await receivers.host.reset();
  },

  async 'the link goes down and up'(t, { world, cell, run }) {
    const { length } = run.lines;
    const tunnel = await cell.tunnel();
    for (const state of ['down', 'up', 'down', 'up', 'down', 'up'])
      await world.host.must(['ip', 'link', 'set', cell.link, state]);
    t.ok(await tunnel.echoes(), 'a tunnel goes on');
    t.same(run.lines.slice(length), [], 'that is no news');
  },

  async 'the nft program is gone'(t, siege) {
    const { world, cell, beside, table, run, page } = siege;
    const from = run.lines.length;
    await cell.tunnel();
    const cut = countCut(siege.audit());
    const hidden = `${world.dir}/layers/nft`;
    await world.host.must([...beside, 'mv', '/usr/sbin/nft', hidden]);
    t.match(run.lines[await siege.said('the link of the sandbox is down', from)], /cannot run `nft`/);
    t.equal(await cell.ask(), '28 000 000', 'nobody answers');
    await until(async () => /"fence_not_ok"/.test(await page('readyz')));
    t.match(await page('metrics'), /^sallyport_fence_ok 0$/m);
    t.match(await world.host.must(['nft', 'list', 'table', 'inet', table]), /drop_direct/, 'the rules stand');
    t.ok(countCut(siege.audit()) > cut, 'tunnels are cut');
    t.same(await siege.arrived(), nowhere);
    await world.host.must([...beside, 'mv', hidden, '/usr/sbin/nft']);
    await siege.said('the link is up', from);
  },
};

/** After it the link is not the run's own any more: what the runner set on it is gone, the fence is not. */
export const madeAnew: Readonly<Record<string, Event>> = {
  async 'the network namespace is made anew'(t, { world, cell, netns, run }) {
    const { host } = world;
    const { length } = run.lines;
    // Of this run alone: others may have one, too.
    const pids = (await host.must(['ip', 'netns', 'pids', netns])).trim().split('\n');
    const command =
      pids.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep\0')) ?? '';
    await host.must(['ip', 'netns', 'del', netns]);
    await host.must(['ip', 'link', 'del', cell.link]);
    const left = await host.must(['nsenter', `--net=/proc/${command}/ns/net`, '--', 'ip', '-o', 'link']);
    t.equal(left.trim().split('\n').length, 1, 'the command is left with its loopback');
    await host.must(['ip', 'netns', 'add', netns]);
    const peer = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', netns];
    await host.must(['ip', 'link', 'add', cell.link, ...peer]);
    await host.must(['ip', 'addr', 'add', `${cell.proxy}/30`, 'dev', cell.link]);
    await host.must(['ip', '-n', netns, 'addr', 'add', `${cell.address}/30`, 'dev', 'eth0']);
    await host.must(['ip', 'link', 'set', cell.link, 'up']);
    await host.must(['ip', '-n', netns, 'link', 'set', 'eth0', 'up']);
    await cell.attack();
    t.same(run.lines.slice(length), [], 'that is no news');
  },
};

function countCut(audit: string): number {
  return audit.split('"reason":"fence_broken"').length - 1;
}
