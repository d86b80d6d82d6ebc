// Holds what a worker leaves that dies, and what the parent leaves: one close for each tunnel, every place, no orphan.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { loadWorkersAddon } from '../../../proxy/workers/addon.ts';
import { closed } from '../../helpers/proxy-client.ts';
import { entry, policyFolder } from '../../helpers/proxy-process.ts';
import {
  childrenOf,
  closesOf,
  echoes,
  isAlive,
  nextTurn,
  signal,
  spread,
  startWorkersProxy,
} from '../../helpers/workers.ts';

const addon = loadWorkersAddon();
const skip = 'problem' in addon && `the native part: ${addon.problem}`;

const openDb = 'sallyport_decisions_total{verdict="allow",reason="service_matched",mode="service"}';

function killIfThere(pid: number): void {
  try {
    signal(pid, 'SIGKILL');
  } catch {
    // It was gone before we came.
  }
}

t.test(
  'kill -9 of one worker: its tunnels are closed on record once, the others go on, and the next one serves',
  { skip },
  async (t) => {
    const proxy = await startWorkersProxy(t);
    const tunnels = await spread(proxy, 3);
    const [lost = [], kept = []] = [tunnels.get(0), tunnels.get(1)];
    const before = await proxy.metric(openDb);
    const [victim] = proxy.pids();
    signal(victim, 'SIGKILL');
    t.match(await proxy.logged('worker ended'), { tunnels: lost.length, problem: /SIGKILL/u });
    await Promise.all(lost.map(closed));
    t.same(
      await Promise.all(kept.map(echoes)),
      kept.map(() => true),
      'nobody else notices',
    );
    t.equal(await proxy.metric(openDb), before, 'counters do not fall');
    await proxy.logged('worker ready');
    t.equal(await proxy.metric('sallyport_worker_restarts_total'), 1);
    const again = await spread(proxy, lost.length);
    t.same(
      await Promise.all((again.get(0) ?? []).map(echoes)),
      (again.get(0) ?? []).map(() => true),
    );
    const crashed = closesOf(proxy, 'worker_crashed');
    t.equal(new Set(crashed.map(({ tunnel }) => tunnel)).size, lost.length);
    t.match(
      crashed,
      lost.map(() => ({ verdict: 'allow', mode: 'service', port: proxy.echo.port, principal: 'local' })),
    );
    proxy.child.kill('SIGTERM');
  },
);

t.test('kill -9 of the parent leaves no worker, not even one that stands still', { skip }, async (t) => {
  const proxy = await startWorkersProxy(t);
  const tunnels = [...(await spread(proxy, 1)).values()].flat();
  const pids = proxy.pids();
  signal(pids[0], 'SIGSTOP');
  proxy.child.kill('SIGKILL');
  // Its stderr is the workers' too: it ends with the last of them.
  await proxy.ended;
  while (pids.some(isAlive)) await nextTurn();
  await Promise.all(tunnels.map(closed));
});

t.test(
  'workers killed at random under load: every tunnel is closed on record once, and no place is lost',
  { skip },
  async (t) => {
    const proxy = await startWorkersProxy(t, ['--max-tunnels', '12']);
    const [kills, load] = [6, { isOn: true }];
    // So that whoever dies first has a tunnel.
    await spread(proxy, 1);
    const client = async (): Promise<void> => {
      while (load.isOn) {
        const socket = await proxy.dial();
        if (socket === undefined) continue;
        for (let turn = 0; turn < 5; turn += 1) await echoes(socket);
        socket.destroy();
      }
    };
    const clients = Array.from({ length: 20 }, client);
    // The same victims in every run; when in its life each dies, the machine decides.
    for (let kill = 0; kill < kills; kill += 1) {
      const pids = proxy.pids();
      signal(pids[(kill * 7 + 3) % pids.length], 'SIGKILL');
      await proxy.logged('worker ended');
      await proxy.logged('worker ready');
    }
    load.isOn = false;
    await Promise.all(clients);
    while ((await proxy.tunnels()).length > 0) await nextTurn();
    const admitted = await Promise.all(Array.from({ length: 40 }, async () => await proxy.dial()));
    t.equal(admitted.filter((socket) => socket !== undefined).length, 12, 'all places are there again');
    for (const socket of admitted) socket?.destroy();
    proxy.child.kill('SIGTERM');
    t.equal((await proxy.ended).status, 0);
    const lines = proxy.audit();
    const letOut = lines.filter((line) => line.event === 'decision' && line.verdict === 'allow');
    const closes = lines.filter((line) => line.event === 'close');
    const closedOnce = new Set(closes.map(({ tunnel }) => tunnel));
    t.equal(closedOnce.size, closes.length, 'no tunnel has two');
    t.same(
      letOut.filter(({ tunnel }) => !closedOnce.has(tunnel)).map(({ tunnel }) => tunnel),
      [],
      'each that was let out has one',
    );
    t.ok(closes.some((line) => line.event === 'close' && line.cause === 'worker_crashed'));
  },
);

t.test('workers that do not stay up end the proxy with 70 and the reason', { skip }, async (t) => {
  const { policy, folder } = await policyFolder(t, '{}');
  const args = [
    '--policy',
    policy,
    '--listen',
    '127.0.0.1:0',
    '--workers',
    '2',
    '--audit',
    join(folder, 'a'),
  ];
  // With a lifeline: it ends with this test, however that ends.
  const child = spawn(process.execPath, [entry, 'proxy', '--ready-fd', '3', ...args], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => void child.kill('SIGKILL'));
  if (child.stderr === null) throw new Error('stderr is a pipe');
  const said = text(child.stderr);
  const killed = new Set<number>();
  while (child.exitCode === null) {
    for (const pid of childrenOf(child.pid ?? 0)) {
      killed.add(pid);
      killIfThere(pid);
    }
    await nextTurn();
  }
  t.equal(child.exitCode, 70);
  t.match(await said, /worker \d failed 5 times in a row: it was killed by SIGKILL\nhelp: /u);
  t.ok(killed.size >= 5 && killed.size <= 10, `${killed.size} were tried`);
});
