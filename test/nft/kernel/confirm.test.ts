// `fence apply --confirm` as processes: what is kept, what comes back, and who may be killed in between without harm.
import { join } from 'node:path';
import { once } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { makeLink, makeNetns, run, type Netns } from '../../helpers/netns.ts';

const skip = needs(t, ['root', 'netns', 'nft', 'ip', 'nsenter', 'flock']);
const root = join(import.meta.dirname, '../../..');
const main = join(root, 'container/main.ts');
const table = 'sallyport_test';
const words = (port: number): readonly string[] =>
  `--table ${table} --interface sp-a --address 10.219.0.2 --proxy 10.219.0.1 --port ${port} --name a`.split(
    ' ',
  );

// A slow machine is no failure.
t.setTimeout(300_000);

type Tearable = Parameters<typeof makeNetns>[0] & { testdir(): string };

async function rig(t: Tearable, label = 'confirm') {
  const host = await makeNetns(t, label);
  const env = { ...process.env, SALLYPORT_STATE_DIR: t.testdir() };
  const fence = async (...args: readonly string[]) =>
    await host.run([process.execPath, main, 'fence', ...args], { env });
  const start = (...args: readonly string[]) => host.start([process.execPath, main, 'fence', ...args], env);
  return { host, fence, start, env };
}

/** The table as nft prints it, without what the kernel numbers and counts. */
async function listing(host: Netns): Promise<string> {
  const { code, stdout } = await host.run(['nft', '-j', 'list', 'table', 'inet', table]);
  return code === 0 ? stdout.replaceAll(/"(handle|packets|bytes)": \d+/g, '"$1": 0') : 'none';
}

/** Every table of the machine as nft prints it, counts included, without the kernel's numbers; by name, as a table that was put back comes last. */
async function everything(host: Netns): Promise<readonly string[]> {
  const { nftables } = JSON.parse(await host.must(['nft', '-j', 'list', 'ruleset'])) as {
    readonly nftables: readonly Record<string, { readonly family?: string; readonly table?: string }>[];
  };
  const tables = Map.groupBy(nftables, (one) => {
    const [[kind, body] = ['', {}]] = Object.entries(one);
    return `${body.family} ${kind === 'table' ? (body as { name?: string }).name : body.table}`;
  });
  return [...tables]
    .map(([name, objects]) => `${name}: ${JSON.stringify(objects).replaceAll(/"handle":\d+/g, '"handle":0')}`)
    .toSorted();
}

/** Resolves when nobody holds the table's lock: the guard is done. */
async function unlocked(folder: string): Promise<void> {
  const script = 'for f in "$0"/*.lock; do flock -w 20 "$f" true || exit 1; done';
  const { code } = await run(['sh', '-c', script, folder], { timeoutMs: 30_000 });
  if (code !== 0) throw new Error('the lock stays taken');
}

t.test('confirmed from another process, a fence stays', { skip }, async (t) => {
  const { host, fence, start } = await rig(t);
  const pending = start('apply', ...words(3128), '--confirm', '30s');
  await pending.line((line) => line.includes('sallyport fence confirm --table sallyport_test'));
  const shown = await listing(host);
  t.match(await fence('apply', ...words(3129)), { code: 75, stderr: /awaits its confirmation\nhelp: / });
  t.equal(await listing(host), shown, 'nobody else comes in between');
  const ended = once(pending.child, 'close');
  t.match(await fence('confirm', '--table', table), { code: 0, stdout: /table inet sallyport_test stays/ });
  t.same((await ended)[0], 0);
  t.match(pending.lines.at(-1), /was confirmed and stays/);
  t.equal(await listing(host), shown);
  t.match(await fence('confirm', '--table', table), { code: 1, stderr: /no apply .* awaits a confirmation/ });
  t.match(await fence('verify', ...words(3128)), { code: 0 });
});

t.test('without a word, exactly what was there before comes back', { skip }, async (t) => {
  const { host, fence } = await rig(t);
  const none = await fence('apply', ...words(3128), '--confirm', '1s');
  t.match(none, {
    code: 1,
    stderr: /rules are again as they were before: nobody confirmed it within 1 s\nhelp: /,
  });
  t.equal(await listing(host), 'none');
  await fence('apply', ...words(5432));
  // Whatever else somebody has put there comes back with it.
  await host.must([
    'nft',
    `add counter inet ${table} mine { packets 7 bytes 512; }; add set inet ${table} mine { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 }; }; insert rule inet ${table} from_a ip daddr @mine ct state established,related limit rate 3/second accept comment "mine"; add chain inet ${table} extra { type nat hook postrouting priority 100; }; add rule inet ${table} extra oifname "up*" masquerade`,
  ]);
  await host.must([
    'nft',
    'add table ip neighbour; add chain ip neighbour c { type filter hook input priority 0; }',
  ]);
  const before = await listing(host);
  const all = await everything(host);
  const neighbour = await host.must(['nft', '-j', 'list', 'table', 'ip', 'neighbour']);
  t.match(before, /"mine"/);
  t.match(all.join('\n'), /"packets":7,"bytes":512/);
  t.match(await fence('apply', ...words(3128), '--confirm', '1s'), { code: 1 });
  t.equal(await listing(host), before);
  t.same(await everything(host), all, 'the whole ruleset, counts included');
  t.equal(await host.must(['nft', '-j', 'list', 'table', 'ip', 'neighbour']), neighbour);
});

t.test('an interrupted apply goes back at once, a killed one when its time is over', { skip }, async (t) => {
  const { host, fence, start, env } = await rig(t);
  await fence('apply', ...words(5432));
  await host.must(['nft', 'add table ip neighbour; add chain ip neighbour c']);
  const before = await listing(host);
  const all = await everything(host);
  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    const pending = start('apply', ...words(3128), '--confirm', signal === 'SIGINT' ? '60s' : '2s');
    await pending.line((line) => line.includes('fence confirm'));
    t.not(await listing(host), before);
    const ended = once(pending.child, 'close');
    pending.child.kill(signal);
    await ended;
    await unlocked(env.SALLYPORT_STATE_DIR);
    t.equal(await listing(host), before, signal);
    t.same(await everything(host), all, signal);
  }
  t.match(await fence('confirm', '--table', table), { code: 1 }, 'too late');
});

t.test(
  'killed at any moment, an apply leaves the old table or the new one, and then the old one',
  { skip },
  async (t) => {
    const moments = [150, 250, 350, 450, 600];
    const outcomes = await Promise.all(
      moments.map(async (ms) => {
        const { host, fence, start, env } = await rig(t, 'kill');
        await fence('apply', ...words(3128));
        const after = await listing(host);
        await fence('apply', ...words(5432));
        const before = await listing(host);
        const all = await everything(host);
        const pending = start('apply', ...words(3128), '--confirm', '2s');
        const ended = once(pending.child, 'close');
        await delay(ms); // the moment is the point, not a wait: any will do
        pending.child.kill('SIGKILL');
        await ended;
        const now = await listing(host);
        await unlocked(env.SALLYPORT_STATE_DIR);
        const isBack = isDeepStrictEqual(await everything(host), all);
        return { isWhole: now === before || now === after, isBack };
      }),
    );
    t.same(
      outcomes,
      moments.map(() => ({ isWhole: true, isBack: true })),
    );
  },
);

t.test('applies at once take turns: each is whole, and the last one holds', { skip }, async (t) => {
  const { host, fence } = await rig(t);
  const ports = [3128, 3129, 3130, 3131];
  const ended = await Promise.all(ports.map(async (port) => await fence('apply', ...words(port))));
  t.same(
    ended.map(({ code, stderr }) => [code, stderr]),
    ports.map(() => [0, '']),
    'none finds the table of another when it reads its own back',
  );
  const now = await listing(host);
  const held = await Promise.all(ports.map(async (port) => (await fence('verify', ...words(port))).code));
  t.equal(held.filter((code) => code === 0).length, 1, now);
});

t.test(
  'an apply that would cut the machine off, or after which its surroundings are worse, does not stay',
  { skip },
  async (t) => {
    const { host, fence, env } = await rig(t);
    const inside = await makeNetns(t, 'inside');
    await makeLink(
      { ns: host, dev: 'sp-a', addresses: ['10.219.0.1/30'] },
      { ns: inside, dev: 'eth0', addresses: ['10.219.0.2/30'] },
    );
    await host.must(['ip', 'route', 'add', 'default', 'via', '10.219.0.2']);
    t.match(await fence('apply', ...words(3128), '--confirm', '30s'), {
      code: 69,
      stderr: /`sp-a` carries this machine's default route/,
    });
    t.equal(await listing(host), 'none');
    await host.must(['ip', 'route', 'del', 'default']);
    // From beyond the sandbox's link, from beyond a bridge whose port is to be fenced, and from a fenced network.
    await host.must(['ip', 'link', 'add', 'br-m', 'type', 'bridge']);
    await host.must(['ip', 'link', 'add', 'sp-m', 'master', 'br-m', 'type', 'veth', 'peer', 'name', 'far']);
    await host.must([
      'sh',
      '-c',
      'ip addr add 192.0.2.1/24 dev br-m && ip link set br-m up && ip link set sp-m up',
    ]);
    const port = words(3128).map((word) => (word === 'sp-a' ? 'sp-m' : word));
    const bridge =
      `--table ${table} --interface br-x --subnet 198.51.100.0/24 --proxy 198.51.100.2:3128`.split(' ');
    await host.must(['ip', 'link', 'add', 'br-x', 'type', 'bridge']);
    const sessions: readonly (readonly [from: string, flags: readonly string[], says: RegExp])[] = [
      ['10.219.0.2', words(3128), /`sp-a` carries the session from `10\.219\.0\.2`/],
      ['192.0.2.7', port, /`sp-m` carries the session from `192\.0\.2\.7`/],
      ['198.51.100.9', bridge, /`198\.51\.100\.0\/24` holds the session from `198\.51\.100\.9`/],
    ];
    for (const [from, flags, says] of sessions) {
      // sudo clears the name; the shell above it has it still.
      const below = ['env', '-u', 'SSH_CONNECTION', process.execPath, main, 'fence', 'apply', ...flags];
      const refused = await host.run(['sh', '-c', '"$@"; exit $?', 'sh', ...below, '--confirm', '30s'], {
        env: { ...env, SSH_CONNECTION: `${from} 50022 10.0.0.1 22` },
      });
      t.match(refused, { code: 69, stderr: says });
      t.equal(await listing(host), 'none');
    }
    await host.must([
      'sh',
      '-c',
      'ip link add up0 type bridge && ip addr add 10.98.0.1/24 dev up0 && ip link set up0 up',
    ]);
    await host.must(['ip', 'route', 'add', 'default', 'via', '10.98.0.2']);
    const door = JSON.stringify(join(root, 'nft/index.ts'));
    const meanwhile: readonly [does: string, says: RegExp][] = [
      [`execSync('nft add table ip other')`, /another program's rules changed meanwhile/],
      [`execSync('ip addr add 10.98.0.9/24 dev up0')`, /this machine's default route is not as it was/],
      [
        `execSync('ip route replace 203.0.113.7 via 10.98.0.3')`,
        /the session from `203\.0\.113\.7` is not as it was/,
      ],
      ['server.close()', /the proxy at `10\.219\.0\.1:3128` took connections before and does not now/],
    ];
    for (const [does, says] of meanwhile) {
      const script = `import { execSync } from 'node:child_process'; import { createServer } from 'node:net'
      import { fenceCommand, fenceIo } from ${door}
      const server = createServer((s) => s.destroy()).listen(3128, '10.219.0.1'); server.unref()
      const io = fenceIo(process.env)
      const nft = { ...io.nft, apply: async (tx) => { await io.nft.apply(tx); ${does} } }
      await fenceCommand({ ...io, nft }).parseAsync(process.argv.slice(1), { from: 'user' })`;
      const argv = [process.execPath, '--input-type=module', '-e', script, '--', 'apply', ...words(3128)];
      const ended = await host.run([...argv, '--confirm', '30s'], {
        env: { ...env, SSH_CONNECTION: '203.0.113.7 50022 10.98.0.1 22' },
      });
      t.match(ended, { code: 1, stderr: says });
      t.equal(await listing(host), 'none');
    }
  },
);
