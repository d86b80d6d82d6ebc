// The bench as a smoke test: its quick run ends with every row and every byte, and its load generator notices a proxy that loses or changes one.
// Asserts no time and no rate.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import t, { type Test } from 'tap';
import { compileLoad, type Workload } from '../../bench/load/index.ts';
import { measures, ownMeasures } from '../../bench/measures/index.ts';
import { run } from '../../bench/measures/run.ts';
import type { Taken } from '../../bench/rounds.ts';
import { needs } from '../helpers/needs.ts';
import { freePort } from '../helpers/tcp.ts';

const root = join(import.meta.dirname, '../..');
const inWorld = needs(t, ['cc', 'ip', 'mount', 'setpriv', 'sysctl', 'unshare', 'userns']);
const peers = {
  'sallyport-splice': 'Sallyport, splice',
  'sallyport-javascript': 'Sallyport, javascript',
  direct: 'direct',
};

t.test(
  'the quick run reads every figure, and both ends count the same bytes',
  { skip: inWorld },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-test-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const json = join(folder, 'taken.json');
    const args = ['bench/main.ts', '--quick', '--only', Object.keys(peers).join(','), '--json', json];
    const ran = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    t.equal(ran.status, 0, `${ran.stderr}${ran.stdout}`);
    const { readings, failures } = JSON.parse(readFileSync(json, 'utf8')) as Taken;
    t.same(failures, []);
    for (const peer of Object.keys(peers)) {
      const { downBytes = [0], downBytesSent, upBytes = [0], upBytesSent } = readings[peer] ?? {};
      t.ok(Math.min(...downBytes, ...upBytes) > 0, `${peer} carried bytes both ways`);
      t.same([downBytes, upBytes], [downBytesSent, upBytesSent], `${peer} lost none`);
    }
    for (const { title } of measures) {
      const section = sectionOf(ran.stdout, title);
      for (const row of Object.values(peers)) t.match(section, `\n| ${row} | `, `${title}: ${row}`);
    }
    for (const { title } of ownMeasures) t.match(sectionOf(ran.stdout, title), / \| \*\*\d/u, title);
    t.notMatch(ran.stdout, /NaN|undefined|\babsent\b/u);
  },
);

function sectionOf(report: string, title: string): string {
  return report.split('\n## ').find((section) => section.startsWith(`${title}\n`)) ?? '';
}

t.test('a wrong name or number is refused with the names there are', async (t) => {
  const refused = (...args: readonly string[]): string => {
    const { status, stderr } = spawnSync(process.execPath, [join(root, 'bench/main.ts'), ...args], {
      encoding: 'utf8',
    });
    t.equal(status, 64, args.join(' '));
    return stderr;
  };
  t.match(refused('--only', 'nginx'), /`nginx`.*\nhelp: .*haproxy/u);
  t.match(refused('--measures', 'speed'), /`speed`.*\nhelp: .*tunnels/u);
  t.match(refused('--rounds', '0'), /`0`/u);
});

t.test('without a compiler the bench says what to install', async (t) => {
  const env = { ...process.env, CC: '/nonexistent' };
  const ran = spawnSync(process.execPath, [join(root, 'bench/main.ts'), '--quick'], {
    env,
    encoding: 'utf8',
  });
  t.match(ran, { status: 69, stderr: /`\/nonexistent`.*\nhelp: apt-get install gcc/u });
});

t.test('a proxy that changes, loses or cuts is a failed run', { skip: needs(t, ['cc']) }, async (t) => {
  compileLoad();
  const faults: Readonly<Record<string, (chunk: Buffer) => Buffer>> = {
    // The first reads of a bulk tunnel are among those that are compared.
    changes: (chunk) => (chunk.length > 1000 ? chunk.fill(0) : chunk),
    loses: (chunk) => (chunk.length > 1000 ? chunk.subarray(1) : chunk),
  };
  for (const workload of ['down', 'up'] as const) {
    await t.resolves(
      runThrough(t, workload, (chunk) => chunk),
      `${workload}: an honest one is none`,
    );
    for (const [name, fault] of Object.entries(faults))
      await t.rejects(runThrough(t, workload, fault), { name: 'FailedRun' }, `${workload}: ${name}`);
  }
  // The echo only: what asks for it has a byte more.
  const garble = (chunk: Buffer): Buffer => (chunk.length === 64 ? chunk.fill(0) : chunk);
  for (const workload of ['tunnels', 'trips'] as const)
    await t.rejects(runThrough(t, workload, garble), { name: 'FailedRun' }, `${workload}: a changed echo`);
});

/** One workload through a proxy without a CONNECT, whose bytes from the upstream (or to it) go through `fault`. */
async function runThrough(t: Test, workload: Workload, fault: (chunk: Buffer) => Buffer): Promise<unknown> {
  const port = await freePort();
  const faulty = (): Transform =>
    new Transform({ transform: (chunk: Buffer, _, done) => done(null, fault(chunk)) });
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const upstream = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    for (const socket of [client, upstream]) hear(socket, client, upstream);
    client.pipe(faulty()).pipe(upstream);
    upstream.pipe(faulty()).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  const to = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const peer = { way: { to, host: 'a.test', connects: false }, pid: undefined, stop: async () => {} };
  return await run(workload, peer, { upstream: `127.0.0.1:${port}` }, { slots: 2, ms: 50 });
}

function hear(socket: Socket, ...both: readonly Socket[]): void {
  socket.on('error', () => {
    for (const one of both) one.destroy();
  });
}
