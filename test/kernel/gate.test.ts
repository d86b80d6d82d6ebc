// The launch gate against a boundary that really has a hole, made between its building and the gate: 69, and the command has not begun.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { needs } from '../helpers/needs.ts';
import { makeWorld, worldNeeds, type World } from './world.ts';

t.setTimeout(300_000);

interface Hole {
  readonly name: string;
  make(world: World, run: string): Promise<void>;
  /** Takes back what is not the run's own. */
  mend?(world: World): Promise<void>;
  /** The probe that notices. */
  readonly line: RegExp;
}

const insert =
  (chain: string, rule: string): Hole['make'] =>
  async (world, run) =>
    void (await world.host.must([
      'nft',
      'insert',
      'rule',
      'inet',
      `sallyport_${run}`,
      chain,
      ...rule.split(' '),
    ]));

/** Ends with its stdin. Asks on for whatever it is asked. */
const resolverCode = `
process.stdin.resume().on('close', () => process.exit())
const socket = require('node:dgram').createSocket('udp4')
socket.on('message', question => socket.send(question, 53, '1.2.3.4')).bind(5300, '0.0.0.0', () => console.log('listening'))
`;

const holes: readonly Hole[] = [
  {
    name: 'a resolver that asks on is in the place of the stub',
    async make(world, run) {
      const resolver = world.host.start([process.execPath, '-e', resolverCode]);
      await resolver.line((line) => line === 'listening');
      // Not by NAT: what passes between a sandbox and the proxy is no flow to it.
      const redirect =
        'add table ip steal; add chain ip steal c { type filter hook prerouting priority -100; }; add rule ip steal c iifname "sp-*" udp dport 53 udp dport set 5300';
      await world.host.must(['nft', redirect]);
      await world.host.must(['nft', 'flush', 'chain', 'inet', `sallyport_${run}`, 'input']);
    },
    async mend(world) {
      await world.host.must(['nft', 'delete table ip steal']);
    },
    line: /FAIL {2}nobody on this machine asks on .* 3 questions for it went to a resolver/,
  },
  {
    name: 'the stub is cut off',
    make: async (world, run) =>
      void (await world.host.must([
        'nft',
        'insert rule inet',
        `sallyport_${run}`,
        'input udp dport 53 drop',
      ])),
    line: /FAIL {2}DNS answers an allowed name with the proxy \(control\), over UDP .*no answer/,
  },
  {
    name: 'DNS is let through ahead of the drop',
    make: insert('prerouting', 'udp dport 53 accept'),
    line: /FAIL {2}DNS over UDP .*passed the fence; counter `dns` did not rise/,
  },
  {
    name: 'the jump into the fence is gone',
    make: async (world, run) =>
      void (await world.host.must(['nft', 'flush', 'chain', 'inet', `sallyport_${run}`, 'prerouting'])),
    line: /FAIL {2}TCP to port 443 elsewhere .*passed the fence; counter `direct` did not rise/,
  },
  {
    name: 'the host is open to the sandbox',
    async make(world, run) {
      await insert('prerouting', 'ip daddr 10.219.0.0/16 tcp dport != 3128 accept')(world, run);
      await insert('input', 'tcp dport != 3128 accept')(world, run);
      await insert('postrouting', 'tcp sport != 3128 accept')(world, run);
    },
    line: /FAIL {2}a scan of \d+ ports of the proxy's address .*passed the fence/,
  },
  {
    name: 'the proxy of the run admits every name',
    async make(world, run) {
      const file = join(world.state, 'runs', run, 'policy', 'policy.json');
      const rule = { id: 'allow/any', host: `gate-${run}.invalid`, reason: 'the hole of this test' };
      const document: unknown = JSON.parse(readFileSync(file, 'utf8'));
      writeFileSync(file, JSON.stringify({ ...Object(document), allow: [rule] }));
      await Promise.resolve();
    },
    line: /FAIL {2}a name that no policy lists is refused .*dns_failed/,
  },
];

t.test('a boundary with a hole', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);
  for (const [index, hole] of holes.entries()) {
    t.test(`${hole.name}: the gate refuses with 69 and the command never begins`, async (t) => {
      const name = world.name(`hole${index}`);
      const marker = join(world.workspace, `ran${index}`);
      const run = world.start(
        ['--name', name, '--workspace', world.workspace],
        ['touch', `/workspace/ran${index}`],
      );
      // The rules have been read back once the proxy's settings are there, and the gate waits for the proxy.
      await untilThere(join(world.state, 'runs', name, 'proxy.json'));
      run.child.kill('SIGSTOP');
      await hole.make(world, name);
      run.child.kill('SIGCONT');
      t.equal(await run.ended, 69, run.lines.join('\n'));
      t.match(run.lines.join('\n'), hole.line);
      t.notOk(existsSync(marker), 'the command has not begun');
      await hole.mend?.(world);
    });
  }
  t.test(
    'what a runner killed in the middle of its gate has lent is taken back by the next start',
    async (t) => {
      const name = world.name('cut');
      const run = world.start(['--name', name], ['true']);
      const links = async (): Promise<string> => await world.host.must(['ip', '-o', 'link']);
      while (!(await links()).includes(`sh-${name}`)) await delay(2);
      run.child.kill('SIGKILL');
      await run.ended;
      t.match(await world.host.must(['nft', 'list', 'tables']), new RegExp(`sallyport_${name}_gate`));
      const { code } = await world.sallyport([], ['true']);
      t.equal(code, 0);
      t.notMatch(await links(), / s[pgh]-/);
      t.equal(await world.host.must(['nft', 'list', 'tables']), '');
      t.notMatch(await world.host.must(['ip', 'route', 'show', 'table', 'all']), /198\.1[89]\./);
    },
  );
  t.test('without a hole the same command runs', async (t) => {
    const { code } = await world.sallyport(['--workspace', world.workspace], ['touch', '/workspace/ran']);
    t.equal(code, 0);
    t.ok(existsSync(join(world.workspace, 'ran')));
  });
});

async function untilThere(file: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!existsSync(file)) {
    if (performance.now() > deadline) throw new Error(`\`${file}\` was not made within 20 s`);
    await delay(2);
  }
}
