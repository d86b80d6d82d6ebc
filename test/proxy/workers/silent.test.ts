// Holds what happens to a worker whose event loop stands still: it is told, passed over, and replaced. Takes its time, as the limits do.
import t from 'tap';
import { loadWorkersAddon } from '../../../proxy/workers/addon.ts';
import { closed } from '../../helpers/proxy-client.ts';
import { closesOf, echoes, signal, spread, startWorkersProxy } from '../../helpers/workers.ts';

const addon = loadWorkersAddon();
const skip = 'problem' in addon && `the native part: ${addon.problem}`;

t.test('a worker that stands still is told, and replaced; the other one goes on', { skip }, async (t) => {
  const proxy = await startWorkersProxy(t);
  const tunnels = await spread(proxy, 1);
  const [victim] = proxy.pids();
  signal(victim, 'SIGSTOP');
  await proxy.logged('worker silent');
  t.equal(await proxy.metric('sallyport_workers{state="silent"}'), 1);
  t.equal((await proxy.tunnels()).length, [...tunnels.values()].flat().length, 'its tunnels are still shown');
  t.match(await proxy.logged('worker ended'), { problem: /stood still/u, process: victim });
  t.same(
    await Promise.all((tunnels.get(1) ?? []).map(echoes)),
    (tunnels.get(1) ?? []).map(() => true),
  );
  await Promise.all((tunnels.get(0) ?? []).map(closed));
  await proxy.logged('worker ready');
  t.equal(closesOf(proxy, 'worker_crashed').length, tunnels.get(0)?.length);
});

t.test(
  'a reload is not done before a worker that stands still is gone: nobody judges by the old policy',
  { skip },
  async (t) => {
    const proxy = await startWorkersProxy(t);
    const before = String((await proxy.ask('a.test:443')).body['policy']);
    signal(proxy.pids()[1], 'SIGSTOP');
    await proxy.write('{"allow": [{"host": "a.test", "reason": "test"}]}');
    proxy.child.kill('SIGHUP');
    const [reloaded, ended] = await Promise.all([
      proxy.logged('policy reloaded'),
      proxy.logged('worker ended'),
    ]);
    t.ok(Number(reloaded['time']) >= Number(ended['time']));
    const replies = await Promise.all(Array.from({ length: 16 }, async () => await proxy.ask('b.test:443')));
    t.same(
      replies.filter(({ body }) => body['policy'] === before),
      [],
    );
    await proxy.logged('worker ready');
  },
);
