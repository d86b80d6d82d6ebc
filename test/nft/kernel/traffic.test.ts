// The fence against real packets: what a root in the sandbox may try, judged where packets would arrive and by the drop counters, never by
// the sender's failure. Every probe first shows, without the fence, that it can get through.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import {
  applyFence,
  dropClasses,
  readDrops,
  removeFence,
  verifyFence,
  type DropClass,
} from '../../../nft/index.ts';
import { needs } from '../../helpers/needs.ts';
import { makeLink, makeNetns } from '../../helpers/netns.ts';
import { probes } from '../world/probes.ts';
import { client, hasId, makeWorld, needed, serve, spec, type Probe, type World } from '../world/index.ts';

const skip = needs(t, needed);
const scanner = join(import.meta.dirname, '../world/scan.pl');

t.test('the way out', { skip }, async (t) => {
  const world = await makeWorld(t);
  const { host, a, b, origin, nft, sinks } = world;
  const drops = async () => await readDrops(nft, spec.table);
  /** The counters are the event: waits until one has counted. */
  const dropped = async (name: DropClass): Promise<void> => {
    while ((await drops()).get(name) === 0) await delay(20);
  };

  t.comment(`IPv6 in sandbox a: ${await addresses6(world, 'a')}`);
  t.match(
    await addresses6(world, 'a'),
    /2001:db8:a::2\/64/,
    'the sandbox has a global IPv6 address: its probes are real',
  );

  await t.test('without a fence every probe arrives (control)', async (t) => {
    for (const { title, words, at } of probes) {
      const { id } = await world.probe(a, words);
      await t.resolves(sinks[at].line(hasId(id)), title);
    }
  });

  await t.test('with the fence no probe arrives, and each counts in its own class', async (t) => {
    await applyFence(nft, spec);
    t.same(await tryAll(world), []);
  });

  await t.test('the proxy ports pass, both ways; a dead proxy is refused, not silent', async (t) => {
    const service = await serve(host, 5432);
    for (const port of [3128, 5432]) {
      const flow = client(a, '10.219.0.1', port);
      flow.child.stdin.write('hello\n');
      t.equal(await flow.line((line) => line === 'hello'), 'hello', `port ${port}`);
      await flow.stop();
    }
    t.equal(
      (await world.probe(b, ['tcp', '10.219.0.5', '3128'])).result,
      'open',
      'each sandbox at its own proxy address',
    );
    t.equal((await world.probe(b, ['tcp', '10.219.0.5', '5432'])).result, 'silence', 'and at its own ports');
    await service.stop();
    t.equal((await world.probe(a, ['tcp', '10.219.0.1', '5432'])).result, 'refused');
  });

  await t.test('a UDP port that was named passes at the own proxy address, and no other', async (t) => {
    const [first, second] = spec.sandboxes;
    if (first === undefined || second === undefined) throw new Error('two sandboxes were expected');
    await applyFence(nft, { ...spec, sandboxes: [{ ...first, datagrams: [53] }, second] });
    const there = await world.probe(a, ['udp', '10.219.0.1', '53']);
    await t.resolves(sinks.host.line(hasId(there.id)), 'a question arrives');
    t.same(
      await tryAll(world, [
        { title: 'another port', words: ['udp', '10.219.0.1', '54'], counts: 'host', at: 'host' },
        { title: 'elsewhere', words: ['udp', '198.51.100.2', '53'], counts: 'dns', at: 'origin' },
        { title: 'the proxy of another', words: ['udp', '10.219.0.5', '53'], counts: 'dns', at: 'host' },
        { title: 'TCP there', words: ['tcp', '10.219.0.1', '53'], counts: 'dns', at: 'host' },
        {
          title: 'the sandbox that has none',
          words: ['udp', '10.219.0.5', '53'],
          counts: 'dns',
          at: 'host',
          from: 'b',
        },
      ]),
      [],
    );
    t.same(await verifyFence(nft, { ...spec, sandboxes: [{ ...first, datagrams: [53] }, second] }), []);
    await applyFence(nft, spec);
  });

  await t.test('nothing opens a connection inwards, from the host or from beyond it', async (t) => {
    const inwards: readonly (readonly [words: string, from: 'host' | 'origin' | 'b', counts: DropClass])[] = [
      ['tcp 10.219.0.2 8080', 'host', 'inbound'],
      ['udp 10.219.0.2 3128', 'host', 'inbound'],
      ['ping 10.219.0.2', 'host', 'inbound'],
      ['tcp 2001:db8:a::2 8080', 'host', 'inbound'],
      ['spoof 10.219.0.2 8080 10.219.0.1', 'host', 'inbound'],
      ['tcp 10.219.0.2 8080', 'origin', 'forward'],
      ['udp 10.219.0.2 8080', 'origin', 'forward'],
      ['ping 10.219.0.2', 'origin', 'forward'],
      ['tcp 2001:db8:a::2 8080', 'origin', 'forward'],
      ['tcp 10.219.0.2 8080', 'b', 'lateral'],
    ];
    await removeFence(nft, spec.table);
    for (const [words, from] of inwards) {
      const { id } = await world.probe(world[from], words.split(' '));
      await t.resolves(sinks.self.line(hasId(id)), `control: ${words} from ${from}`);
    }
    await applyFence(nft, spec);
    t.same(
      await tryAll(
        world,
        inwards.map(([words, from, counts]) => ({
          title: `${words} from ${from}`,
          words: words.split(' '),
          counts,
          at: 'self',
          from,
        })),
      ),
      [],
    );
  });

  await t.test('an answer to a dropped packet does not come in (state left by a dropped SYN)', async (t) => {
    await host.must([
      'nft',
      'add table ip tracking; add chain ip tracking c { type filter hook prerouting priority 0; }; add rule ip tracking c ct state new counter',
    ]);
    await world.probe(a, ['tcp', '198.51.100.2', '20443']);
    t.same(
      await tryAll(world, [
        {
          title: 'answer',
          words: ['spoof', '10.219.0.2', '40000', '198.51.100.2'],
          counts: 'forward',
          at: 'self',
          from: 'origin',
        },
      ]),
      [],
    );
    await host.must(['nft', 'delete table ip tracking']);
  });

  await t.test("other tables' accepts, at whatever priority, open nothing", async (t) => {
    const hooks = ['prerouting', 'input', 'forward', 'output', 'postrouting'];
    const chains = hooks.flatMap((hook) =>
      [-400, -301, -300, 0].map(
        (prio, i) =>
          `add chain inet open ${hook}${i} { type filter hook ${hook} priority ${prio}; policy accept; }; add rule inet open ${hook}${i} accept`,
      ),
    );
    await host.must(['nft', ['add table inet open', ...chains].join('; ')]);
    t.same(await tryAll(world), []);
    await host.must(['nft', 'delete table inet open']);
  });

  await t.test("another table's NAT cannot turn the one allowed port into a way out", async (t) => {
    const nat =
      'add table ip bend; add chain ip bend c { type nat hook prerouting priority -100; }; add rule ip bend c tcp dport';
    await host.must([
      'nft',
      `${nat} 3128 dnat to 198.51.100.2:443; add rule ip bend c tcp dport 5432 redirect to :9999`,
    ]);
    const bent = [
      { title: 'sent on to the origin', port: '3128', at: 'origin', answer: 'open' },
      { title: 'redirected to another port', port: '5432', at: 'host', answer: 'refused' },
    ] as const;
    const words = (port: string): readonly string[] => ['tcp', '10.219.0.1', port];
    await removeFence(nft, spec.table);
    for (const { title, port, at } of bent)
      await t.resolves(sinks[at].line(hasId((await world.probe(a, words(port))).id)), `control: ${title}`);
    await applyFence(nft, spec);
    const ids = [];
    for (const one of bent) {
      const { id, result } = await world.probe(a, words(one.port));
      ids.push({ ...one, id });
      t.equal(result, one.answer, `not ${one.title}: untracked, it goes where it was sent`);
    }
    await host.must(['nft', 'delete table ip bend']);
    await world.settled();
    for (const { id, title } of ids) t.notOk(sinks.origin.lines.some(hasId(id)), title);
  });

  await t.test(
    'a packet to the proxy with a source route onwards is stopped when routed (RFC 791 loose source route)',
    async (t) => {
      const routed: Attempt = {
        title: 'source route',
        words: ['route', '10.219.0.1', '3128', '198.51.100.2'],
        counts: 'forward',
        at: 'origin',
      };
      await removeFence(nft, spec.table);
      await t.resolves(sinks.origin.line(hasId((await world.probe(a, routed.words)).id)), 'control');
      await applyFence(nft, spec);
      t.same(await tryAll(world, [routed]), []);
    },
  );

  await t.test('rules that stand before the link hold from its first packet', async (t) => {
    const c = await makeNetns(t, 'c');
    const late = { name: 'c', interface: 'sp-c', address: '10.219.0.10', proxy: '10.219.0.9', ports: [3128] };
    await applyFence(nft, { ...spec, sandboxes: [...spec.sandboxes, late] });
    await makeLink(
      { ns: host, dev: 'sp-c', addresses: ['10.219.0.9/30'] },
      { ns: c, dev: 'eth0', addresses: ['10.219.0.10/30'] },
    );
    await c.must(['ip', 'route', 'add', 'default', 'via', '10.219.0.9']);
    const { id } = await world.probe(c, ['udp', '198.51.100.2', '443']);
    t.equal((await world.probe(c, ['tcp', '10.219.0.9', '3128'])).result, 'open');
    await world.settled();
    t.notOk(sinks.origin.lines.some(hasId(id)));
    t.equal((await drops()).get('udp'), 1);
  });

  await t.test(
    "root in the sandbox may flush its own namespace's rules and routes: the fence is not there",
    async (t) => {
      await applyFence(nft, spec);
      await a.must(['nft', 'flush ruleset']);
      await a.must(['ip', 'route', 'replace', 'default', 'via', '10.219.0.1']);
      t.same(await verifyFence(nft, spec), []);
      t.equal((await world.probe(a, ['tcp', '198.51.100.2', '443'])).result, 'silence');
    },
  );

  // After these two the classes are no longer quiet: a cut flow sends again for a while.
  await t.test('a flow that was open before the fence is cut in both directions (established)', async (t) => {
    await removeFence(nft, spec.table);
    const server = await serve(origin, 443);
    const flow = client(a, '198.51.100.2', 443);
    await flow.line((line) => line === 'connected');
    flow.child.stdin.write('before\n');
    await flow.line((line) => line === 'before');
    await applyFence(nft, spec);
    const seen = sinks.origin.lines.length;
    flow.child.stdin.write('after\n');
    server.child.stdin.write('pushed\n');
    await dropped('direct');
    await dropped('forward');
    await world.settled();
    t.same(fromA(sinks.origin.lines.slice(seen)), [], 'nothing of it reaches the origin');
    t.same(flow.lines, ['connected', 'before'], 'nothing of it comes back');
    await flow.stop();
    await server.stop();
  });

  await t.test('of all 65,535 ports of the proxy address only the two given ones answer', async (t) => {
    for (const one of Object.values(sinks)) await one.stop(); // they need not see 65,535 answers
    await removeFence(nft, spec.table);
    t.equal((await scan(world)).length, 65_535, 'without a fence every port answers (control)');
    await applyFence(nft, spec);
    const before = await drops();
    t.same(await scan(world), [3128, 5432]);
    const after = await drops();
    const counted = (name: DropClass): number => (after.get(name) ?? 0) - (before.get(name) ?? 0);
    t.ok(counted('host') >= 65_535 - 4, 'the others were counted as host');
    t.ok(counted('dns') >= 2, 'but 53 and 853 as dns');
  });
});

type Attempt = Probe & { readonly from?: 'host' | 'origin' | 'a' | 'b' };

/** Sends each probe; what was wrong, in words: counted in another class than its own, or seen where it must not be. */
async function tryAll(world: World, attempts: readonly Attempt[] = probes): Promise<readonly string[]> {
  const wrong: string[] = [];
  const sent: (Attempt & { readonly id: string })[] = [];
  for (const attempt of attempts) {
    const before = await readDrops(world.nft, spec.table);
    const { id } = await world.probe(world[attempt.from ?? 'a'], attempt.words);
    const after = await readDrops(world.nft, spec.table);
    const rose = dropClasses
      .map(({ name }) => name)
      .filter((name) => (after.get(name) ?? 0) > (before.get(name) ?? 0));
    sent.push({ ...attempt, id });
    // The kernel's own IPv6 chatter (neighbours, listeners) may come in between.
    const strange = rose.filter((name) => name !== attempt.counts && name !== 'ipv6' && name !== 'inbound');
    if (!rose.includes(attempt.counts) || strange.length > 0)
      wrong.push(`${attempt.title}: counted as ${rose.join(', ') || 'nothing'}`);
  }
  await world.settled();
  for (const { id, at, title } of sent)
    if (world.sinks[at].lines.some(hasId(id))) wrong.push(`${title}: arrived at ${at}`);
  return wrong;
}

async function scan({ a }: World): Promise<readonly number[]> {
  return (await a.must(['perl', scanner, '10.219.0.1'], { timeoutMs: 60_000 }))
    .trim()
    .split('\n')
    .map(Number);
}

function fromA(lines: readonly string[]): readonly string[] {
  return lines.filter((line) => line.split(' ')[2] === '10.219.0.2');
}

async function addresses6(world: World, which: 'a'): Promise<string> {
  return (await world[which].must(['ip', '-6', '-o', 'addr', 'show', 'dev', 'eth0'])).replaceAll(/\s+/g, ' ');
}
