// `sallyport fence watch` as a process beside the real kernel and a real proxy: what others do to our table and to theirs, how soon it is answered,
// and what the proxy's metrics and readiness say of it.
import { chmodSync } from 'node:fs';
import { createServer, request, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { once } from 'node:events';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createNft, planFence, verifyFence, type FenceReport, type FenceSpec } from '../../../nft/index.ts';
import { findProgram, needs } from '../../helpers/needs.ts';
import { makeLink, makeNetns } from '../../helpers/netns.ts';

const skip = needs(t, ['root', 'netns', 'nft', 'ip', 'nsenter']);
const main = join(import.meta.dirname, '../../../container/main.ts');
const table = 'sallyport_test';
const flags = `--table ${table} --interface sp-a --address 10.219.0.2 --proxy 10.219.0.1 --port 3128 --name a`;
const spec: FenceSpec = {
  table,
  pool: '10.219.0.0/16',
  sandboxes: [{ name: 'a', interface: 'sp-a', address: '10.219.0.2', proxy: '10.219.0.1', ports: [3128] }],
};

const cases: readonly [title: string, commands: (at: (words: string) => string) => string, said: RegExp][] = [
  ['the ruleset flushed', () => 'flush ruleset', /table `sallyport_test` is missing/],
  [
    'one rule deleted',
    (at) => `delete rule inet ${table} from_a handle ${at('counter name "drop_dns"')}`,
    /`from_a`: rule 7 is missing/,
  ],
  [
    "two rules in each other's place",
    (at) =>
      `delete rule inet ${table} from_a handle ${at('counter name "drop_ipv6"')}; add rule inet ${table} from_a position ${at('counter name "drop_spoof"')} meta nfproto ipv6 counter name "drop_ipv6" drop`,
    /out of order/,
  ],
  [
    'an accept before the drops',
    () => `insert rule inet ${table} from_a accept`,
    /rule 1 is not in the plan: accept/,
  ],
  [
    'one port more',
    (at) =>
      `replace rule inet ${table} input handle ${at('accept')} iifname "sp-a" ip saddr 10.219.0.2 ip daddr 10.219.0.1 tcp dport { 3128, 3129 } accept`,
    /rule 1 is not in the plan: .*3129/,
  ],
  [
    'another priority',
    () =>
      `flush chain inet ${table} forward; delete chain inet ${table} forward; add chain inet ${table} forward { type filter hook forward priority 300; }`,
    /prio 300/,
  ],
];

// A slow machine is no failure.
t.setTimeout(300_000);

t.test('the watch', { skip }, async (t) => {
  const { host, lines, watch, reports, link, metric } = await rig(t);
  const nft = createNft({ enter: host.enter });

  for (const [title, commands, said] of cases) {
    await t.test(`${title}: put back, told as broken and then as whole`, async (t) => {
      const listing = (await host.must(['nft', '-a', 'list', 'table', 'inet', table])).split('\n');
      const at = (words: string): string =>
        listing
          .find((line) => line.includes(`${words} `) && !line.includes('{ #'))
          ?.match(/handle (\d+)/)?.[1] ?? '';
      const [seen, told] = [lines().length, reports.length];
      const [breaks, repairs] = [await metric('breaks_total'), await metric('repairs_total')];
      const started = performance.now();
      await host.must(['nft', commands(at)]);
      const line = await watch.line((text) => lines().indexOf(text) >= seen && text.includes('"repaired"'));
      t.comment(`answered ${Math.round(performance.now() - started)} ms after nft was started`);
      t.match(line, said);
      t.same(await verifyFence(nft, spec), []);
      // Looks of the timer may come in between.
      const isTold = (report: FenceReport): boolean => !report.ok && said.test(report.problems.join('\n'));
      const broken = await reported(reports, told, isTold);
      t.match(
        reports[broken - 1],
        { ready: 503 },
        'the proxy is not ready while it is told of a broken fence',
      );
      const whole = await reported(reports, broken, ({ ok }) => ok);
      t.match(reports[whole - 1], { ready: 200 }, 'and ready again when it is told of a whole one');
      t.equal(await metric('breaks_total'), breaks + 1);
      t.equal(await metric('repairs_total'), repairs + 1);
      t.equal(await metric('ok'), 1);
      t.match(await link(), /state UP/, 'the link stayed up');
    });
  }

  await t.test('a table replaced by an equal one is no news', async (t) => {
    const [seen, told] = [lines().length, reports.length];
    const breaks = await metric('breaks_total');
    await nft.apply(planFence(spec));
    // One look may have begun before; the second has seen the new table.
    await settled(reports, told + 2);
    t.equal(lines().length, seen);
    t.same(
      reports.slice(told).filter(({ ok, ready }) => !ok || ready !== 200),
      [],
    );
    t.equal(await metric('breaks_total'), breaks);
  });

  await t.test('a rule of another table around the fence closes the link until it is gone', async (t) => {
    await host.must([
      'nft',
      'add table ip other; add chain ip other c { type filter hook input priority 0; }; add rule ip other c tcp dport 3128 tcp dport set 22',
    ]);
    const closed = await watch.line((text) => text.includes('"closed"') && text.includes('rewrites'));
    t.match(JSON.parse(closed), { problems: [/table ip `other`: chain `c` rewrites packets after/] });
    t.match(await link(), /state DOWN/);
    await settled(reports, reports.length + 1);
    t.match(reports.at(-1), { ok: false, ready: 503 });
    t.equal(await metric('ok'), 0);
    t.match(await host.must(['nft', 'list', 'tables']), /table ip other/, 'which is left alone');
    await host.must(['nft', 'delete table ip other']);
    await watch.line((text) => text.includes('"opened"'));
    t.match(await link(), /state UP/);
  });

  await t.test(
    'the link taken down and up, or made anew with its namespace, meets the same rules',
    async (t) => {
      const seen = lines().length;
      await host.must(['ip', 'link', 'set', 'sp-a', 'down']);
      await host.must(['ip', 'link', 'set', 'sp-a', 'up']);
      await host.must(['ip', 'link', 'del', 'sp-a']);
      await makeLink(
        { ns: host, dev: 'sp-a', addresses: ['10.219.0.1/30'] },
        { ns: await makeNetns(t, 'again'), dev: 'eth0', addresses: ['10.219.0.2/30'] },
      );
      t.same(await verifyFence(nft, spec), []);
      t.equal(lines().length, seen);
    },
  );

  await t.test('it ends with 0 when it is told to, and leaves the fence', async (t) => {
    const ended = once(watch.child, 'close');
    watch.child.kill('SIGTERM');
    t.same((await ended)[0], 0);
    t.same(await verifyFence(nft, spec), []);
  });

  await t.test('told to stop while nft is at work, it ends with 0 as well', async (t) => {
    // Every call of this nft tells the watch to stop, before it does what it was asked.
    const bin = t.testdir({
      nft: `#!/bin/sh\n[ "$2" = monitor ] || kill -TERM $PPID\nexec ${findProgram('nft')} "$@"\n`,
    });
    chmodSync(join(bin, 'nft'), 0o755);
    const env = { ...process.env, PATH: `${bin}:${process.env['PATH']}` };
    const { code } = await host.run([process.execPath, main, 'fence', 'watch', ...flags.split(' ')], { env });
    t.equal(code, 0);
    t.same(await verifyFence(nft, spec), []);
  });
});

/** What the watch told the proxy, and what the proxy's /readyz said right after. */
type Told = FenceReport & { readonly ready: number };

/** A host with a fenced link, a proxy and a watch that run there, and whatever passes between them. */
async function rig(t: Test) {
  const host = await makeNetns(t, 'watch');
  const inside = await makeNetns(t, 'inside');
  await makeLink(
    { ns: host, dev: 'sp-a', addresses: ['10.219.0.1/30'] },
    { ns: inside, dev: 'eth0', addresses: ['10.219.0.2/30'] },
  );
  const reports: Told[] = [];
  const folder = t.testdir({ 'policy.json': '{"version":1,"allow":[]}' });
  const [socket, admin] = [join(folder, 'tee.sock'), join(folder, 'admin.sock')];
  const files = `--policy ${folder}/policy.json --audit ${folder}/audit.jsonl --admin ${admin}`.split(' ');
  const listen = ['--listen', '10.219.0.1:3128', '--enforcement', 'fence'];
  host.start([process.execPath, main, 'proxy', ...files, ...listen]);
  await host.listening(3128);
  // Between the watch and the proxy: what is told is carried on, and then the proxy is asked whether it is ready.
  const tee = createServer((question, response) => {
    void (async () => {
      const body = await text(question);
      const { status } = await ask(admin, 'PUT', '/fence', body);
      const { status: ready } = await ask(admin, 'GET', '/readyz');
      reports.push({ ...(JSON.parse(body) as FenceReport), ready });
      response.writeHead(status).end();
    })();
  }).listen(socket);
  t.teardown(async () => void tee.close());
  const words = ['fence', 'watch', ...flags.split(' '), '--admin', socket, '--json'];
  const watch = host.start([process.execPath, main, ...words]);
  // There is no fence yet: the first look makes it.
  await watch.line((line) => line.includes('"watching"'));
  const lines = (): readonly string[] => watch.lines.filter((line) => line.startsWith('{'));
  const link = async (): Promise<string> => await host.must(['ip', 'link', 'show', 'sp-a']);
  /** A metric of the fence, without labels. */
  const metric = async (name: string): Promise<number> => {
    const { body } = await ask(admin, 'GET', '/metrics');
    return Number(new RegExp(`^sallyport_fence_${name} (\\d+)$`, 'm').exec(body)?.[1]);
  };
  return { host, watch, lines, reports, link, metric };
}

/** One question to an admin socket. */
async function ask(
  socketPath: string,
  method: string,
  path: string,
  body = '',
): Promise<{ readonly status: number; readonly body: string }> {
  const call = request({
    socketPath,
    method,
    path,
    headers: { 'content-type': 'application/json' },
    agent: false,
  });
  const answered = once(call, 'response') as Promise<[IncomingMessage]>;
  call.end(body);
  const [answer] = await answered;
  return { status: answer.statusCode ?? 0, body: await text(answer) };
}

/** Place after the first report from `from` on that is `wanted`. */
async function reported(
  reports: readonly Told[],
  from: number,
  wanted: (report: Told) => boolean,
): Promise<number> {
  for (;;) {
    const at = reports.findIndex((report, i) => i >= from && wanted(report));
    if (at >= 0) return at + 1;
    await new Promise((resolve) => void setTimeout(resolve, 10));
  }
}

async function settled(reports: readonly unknown[], count: number): Promise<void> {
  while (reports.length < count) await new Promise((resolve) => void setTimeout(resolve, 10));
}
