// What may happen to the process that carries a sandbox's clients: it is stopped, killed, or one of its workers is.
import type { Test } from 'tap';
import type { ByHand } from './by-hand.ts';
import type { Siege } from './siege.ts';
import { until } from './until.ts';

type Event = (t: Test, siege: Siege) => Promise<void>;

/** What a client gets that is served: curl's exit status, the proxy's answer, the origin's. */
export const served = '0 200 200';

export const proxyEvents: Readonly<Record<string, Event>> = {
  async 'the proxy is frozen'(t, siege) {
    const { cell, proxy, run, receivers } = siege;
    const from = run.lines.length;
    await cell.ipv6('off');
    const tunnel = await cell.tunnel();
    proxy.signal('SIGSTOP');
    const waiting = tunnel.echoes();
    t.equal(await siege.page('healthz'), 'nobody answers');
    proxy.signal('SIGCONT');
    t.ok(await waiting, 'a tunnel goes on where it stood');
    proxy.signal('SIGSTOP');
    // The report of the first break is under way for as long as the proxy stands still.
    await siege.flush();
    const second = await siege.flush();
    t.equal(await cell.ask(), '28 000 000', 'nobody answers');
    t.ok(second < (await siege.said('the proxy does not answer', from)), 'the fence was put back meanwhile');
    proxy.signal('SIGCONT');
    await siege.said('the proxy answers again', from);
    await cell.ipv6('on');
    await siege.arrivedMeanwhile(siege.table);
    // As after every lost table.
    await receivers.host.reset();
  },
};

/** Comes last: nothing is served after it. */
export const killed: { readonly title: string; readonly event: Event } = {
  title: 'the proxy is killed',
  async event(t, siege) {
    const { cell, proxy, run } = siege;
    const from = run.lines.length;
    const tunnel = await cell.tunnel();
    proxy.signal('SIGKILL');
    t.match(
      run.lines[await siege.said('the proxy is gone', from)],
      /ended by SIGKILL; the sandbox has no way out/,
    );
    await tunnel.ended();
    t.equal(await cell.ask(), '7 000 000', 'refused at once');
    t.equal(await siege.page('healthz'), 'nobody answers');
    t.equal(run.child.exitCode, null, 'the command goes on');
  },
};

export const workerCrash: {
  readonly title: string;
  readonly event: (t: Test, byHand: ByHand) => Promise<void>;
} = {
  title: 'a worker crashes',
  async event(_, { cell, proxy, workers, metrics }) {
    await until(async () => (await cell.ask()) === served);
    const tunnel = await cell.tunnel();
    for (const pid of workers()) process.kill(pid, 'SIGKILL');
    await proxy.line((line) => line.includes('"worker ended"'));
    await tunnel.ended();
    await until(async () => (await cell.ask()) === served);
    await until(async () => /^sallyport_worker_restarts_total 2$/m.test(await metrics()));
  },
};
