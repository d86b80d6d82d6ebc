// The fence around a bridge that somebody else made, with real frames: members, a proxy that is a member or the host, bridge netfilter on and off.
// Judged at the receivers; each probe first shows, without the fence, that it arrives.
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { makeNetns, type Netns, type Running } from '../../helpers/netns.ts';

const skip = needs(t, ['root', 'netns', 'nft', 'perl', 'ip', 'nsenter']);
const root = join(import.meta.dirname, '../../..');
const main = join(root, 'container/main.ts');
const tools = join(import.meta.dirname, '../world');

// A slow machine is no failure.
t.setTimeout(300_000);

type Tearable = Parameters<typeof makeNetns>[0] & { testdir(): string };

interface Lan {
  readonly host: Netns;
  readonly a: Netns;
  readonly b: Netns;
  /** Where the sidecar is. */
  readonly p: Netns;
  fence(...words: readonly string[]): ReturnType<Netns['run']>;
  start(...words: readonly string[]): Running;
  /** A member more: a namespace whose `eth0` is plugged into the bridge. */
  plug(label: string, address: string): Promise<Netns>;
}

/** A host with bridge `br-t` (172.30.0.1/24 and fd00:30::1), members a .10, b .11, p .2. */
async function makeLan(t: Tearable, bridgeNf: '0' | '1'): Promise<Lan> {
  const host = await makeNetns(t, 'lan');
  await host.must([
    'sh',
    '-c',
    `for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo ${bridgeNf} > $f; done; echo 1 > /proc/sys/net/ipv4/ip_forward`,
  ]);
  await host.must(['ip', 'link', 'add', 'br-t', 'type', 'bridge']);
  await host.must(['ip', 'addr', 'add', '172.30.0.1/24', 'dev', 'br-t']);
  await host.must(['ip', 'addr', 'add', 'fd00:30::1/64', 'dev', 'br-t', 'nodad']);
  await host.must(['ip', 'addr', 'add', '198.51.100.1/32', 'dev', 'lo']);
  await host.must(['ip', 'link', 'set', 'br-t', 'up']);
  const plug: Lan['plug'] = async (label, address) => {
    const ns = await makeNetns(t, label);
    await host.must([
      'ip',
      'link',
      'add',
      `v-${label}`,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      ns.name,
    ]);
    await host.must(['ip', 'link', 'set', `v-${label}`, 'master', 'br-t', 'up']);
    await ns.must(['ip', 'addr', 'add', `172.30.0.${address}/24`, 'dev', 'eth0']);
    await ns.must(['ip', 'addr', 'add', `fd00:30::${address}/64`, 'dev', 'eth0', 'nodad']);
    await ns.must(['ip', 'link', 'set', 'eth0', 'up']);
    await ns.must(['ip', 'route', 'add', 'default', 'via', '172.30.0.1']);
    return ns;
  };
  const env = { ...process.env, SALLYPORT_STATE_DIR: t.testdir() };
  const argv = (words: readonly string[]) => [process.execPath, main, 'fence', ...words];
  return {
    host,
    a: await plug('a', '10'),
    b: await plug('b', '11'),
    p: await plug('p', '2'),
    plug,
    fence: async (...words) => await host.run(argv(words), { env }),
    start: (...words) => host.start(argv(words), env),
  };
}

const listener = `require('net').createServer(s => s.on('error', () => {}).end('hello')).listen(Number(process.argv[1]), '0.0.0.0', () => console.log('on'))`;

async function serve(ns: Netns, port: number): Promise<void> {
  await ns.start([process.execPath, '-e', listener, String(port)]).line((line) => line === 'on');
}

/** Whether the listener's word comes back; a no takes as long as it may. */
async function reaches(ns: Netns, address: string, port: number, timeoutMs = 10_000): Promise<boolean> {
  const script = `exec 3<>/dev/tcp/${address}/${port} && cat <&3`;
  return (await ns.run(['bash', '-c', script], { timeoutMs })).stdout === 'hello';
}

async function macOf(ns: Netns): Promise<string> {
  // Not from /sys: that shows the namespace of whoever mounted it.
  const links = JSON.parse(await ns.must(['ip', '-j', 'link', 'show', 'eth0'])) as { address: string }[];
  return links[0]?.address ?? '';
}

interface Probe {
  readonly title: string;
  readonly at: 'b' | 'host';
  /** Hex that a frame of it holds. */
  readonly mark: string;
  readonly argv: readonly string[];
}

const macs = (text: string): string => text.replaceAll(':', '');
const hex = (number: number): string => number.toString(16).padStart(4, '0');

/** What a member with every right in its own namespace may send. Ports and ids tell the probes apart. */
async function probesOf({ a, b }: Lan): Promise<readonly Probe[]> {
  const [toB, own] = await Promise.all([macOf(b), macOf(a)]);
  // Sender 172.30.0.2 at a's hardware address, told to b: what an impostor of the proxy says (RFC 826).
  const lie = `0001080006040002${macs(own)}ac1e0002${macs(toB)}ac1e000b`;
  const ask = `0001080006040001${macs(own)}ac1e000a000000000000ac1e000b`;
  // An IPv4 TCP SYN from a to the proxy's address and port.
  const syn = '450000283039000040060000ac1e000aac1e000230390c38000000010000000050020400aaaa0000';
  const frames: readonly (readonly [title: string, type: string, to: string, payload: string])[] = [
    ['a raw ethertype', '88b5', toB, '2f2f'],
    ['a raw ethertype to everybody', '88b6', 'broadcast', '2f2f'],
    ['a frame with a VLAN tag', '8100', toB, `00010800${syn.replace('30390c38', '30400c38')}`],
    ['LLDP', '88cc', 'broadcast', '0207'],
    ['ARP for another member', '0806', 'broadcast', ask],
    ['ARP for the proxy, which nobody else need hear', '0806', 'broadcast', ask.replace(/0b$/, '02')],
    ["ARP that claims the proxy's address", '0806', toB, lie],
    ['a packet for the proxy in a frame for another', '0800', toB, syn],
  ];
  const packets: readonly (readonly [title: string, at: 'b' | 'host', words: string])[] = [
    ['TCP to another member', 'b', 'tcp 172.30.0.11 80'],
    ['TCP to its proxy port', 'b', 'tcp 172.30.0.11 3128'],
    ['UDP to another member', 'b', 'udp 172.30.0.11 80'],
    ['ping', 'b', 'ping 172.30.0.11'],
    ['SCTP', 'b', 'raw 172.30.0.11 132'],
    ['UDP to everybody', 'b', 'udp 255.255.255.255 67'],
    ['mDNS', 'b', 'udp 224.0.0.251 5353'],
    ['IPv6 to another member', 'b', 'tcp fd00:30::11 80'],
    ['ping to all nodes by IPv6', 'b', 'ping ff02::1'],
    ["the proxy's answer, forged", 'b', 'spoof 172.30.0.11 40000 172.30.0.2'],
    ['a foreign source', 'b', 'spoof 172.30.0.11 80 203.0.113.9'],
    ['TCP to the host', 'host', 'tcp 172.30.0.1 22'],
    ["the host's other address", 'host', 'tcp 198.51.100.1 22'],
    ['DNS to the host', 'host', 'udp 172.30.0.1 53'],
    ['ping to the host', 'host', 'ping 172.30.0.1'],
    ['the world through the host', 'host', 'tcp 203.0.113.7 443'],
    ['IPv6 to the host', 'host', 'udp fd00:30::1 53'],
  ];
  return [
    ...packets.map(([title, at, words], i): Probe => {
      const argv = ['perl', join(tools, 'send.pl'), String(20_001 + i), ...words.split(' ')];
      return { title, at, mark: hex(20_001 + i), argv };
    }),
    ...frames.map(([title, type, to, payload]): Probe => {
      const argv = ['perl', join(tools, 'frame.pl'), type, to, payload];
      // A packet socket shows a VLAN tag beside the frame, not in it.
      const mark = type === '8100' ? '30400c38' : `${type}${payload}`;
      return { title, at: 'b', mark, argv };
    }),
  ];
}

/** Sends every probe from `a`. Titles of those that arrived where they were meant to, and any frame of `a` that arrived at `b` or the host. */
async function tryAll(
  lan: Lan,
): Promise<{ readonly arrived: readonly string[]; readonly frames: readonly string[] }> {
  const own = await macOf(lan.a);
  const places = { b: { ns: lan.b, dev: 'eth0' }, host: { ns: lan.host, dev: 'br-t' } };
  const sinks = {
    b: lan.b.start(['perl', join(tools, 'frames.pl'), 'eth0']),
    host: lan.host.start(['perl', join(tools, 'frames.pl'), 'br-t']),
  };
  for (const sink of Object.values(sinks)) await sink.line((line) => line === 'ready');
  const probes = await probesOf(lan);
  for (const { argv } of probes) await lan.a.must(argv);
  const seen = { b: [''], host: [''] };
  for (const at of ['b', 'host'] as const) {
    const { ns, dev } = places[at];
    await ns.must(['perl', join(tools, 'frame.pl'), '88b7', '02:00:00:00:00:01', '00', dev]);
    await sinks[at].line((line) => line === 'end');
    await sinks[at].stop();
    seen[at] = sinks[at].lines.filter((line) => line.startsWith(own));
  }
  const arrived = probes.filter(({ at, mark }) => seen[at].some((line) => line.includes(mark)));
  return { arrived: arrived.map(({ title }) => title), frames: [...seen.b, ...seen.host] };
}

const words = '--interface br-t --proxy 172.30.0.2:3128 --table sallyport_t --name lan'.split(' ');
const atHost = words.map((word) => word.replace('172.30.0.2', '172.30.0.1'));

for (const bridgeNf of ['0', '1'] as const) {
  t.test(`a bridge, with bridge netfilter ${bridgeNf === '1' ? 'on' : 'off'}`, { skip }, async (t) => {
    const lan = await makeLan(t, bridgeNf);
    for (const [ns, port] of [
      [lan.p, 3128],
      [lan.p, 22],
      [lan.b, 80],
      [lan.host, 22],
      [lan.host, 3128],
    ] as const)
      await serve(ns, port);

    await t.test('without a fence every probe arrives (control)', async (t) => {
      t.ok(await reaches(lan.a, '172.30.0.2', 3128));
      t.ok(await reaches(lan.a, '172.30.0.11', 80));
      const { arrived } = await tryAll(lan);
      // With br_netfilter the kernel itself routes a packet that is in the wrong frame.
      const bent = bridgeNf === '1' ? 'a packet for the proxy in a frame for another' : '';
      const all = (await probesOf(lan)).map(({ title }) => title);
      t.same(
        all.filter((title) => title !== bent && !arrived.includes(title)),
        [],
      );
      await lan.b.must(['ip', 'neigh', 'flush', 'all']); // it believed the lie
    });

    await t.test('a proxy that is a member is all that members reach', async (t) => {
      t.match(await lan.fence('apply', ...words), { code: 0, stderr: '' });
      t.ok(await reaches(lan.a, '172.30.0.2', 3128));
      t.ok(await reaches(lan.b, '172.30.0.2', 3128));
      t.notOk(await reaches(lan.a, '172.30.0.2', 22, 1000));
      t.notOk(await reaches(lan.p, '172.30.0.11', 80, 1000), 'nor does the proxy reach them');
      t.same(await tryAll(lan), { arrived: [], frames: [] });
      t.match(await lan.fence('verify', ...words, '--json'), { code: 0, stdout: /"layer2":[1-9]/ });
    });

    await t.test('a proxy on the host is all that members reach', async (t) => {
      t.match(await lan.fence('apply', ...atHost), { code: 0, stderr: '' });
      t.ok(await reaches(lan.a, '172.30.0.1', 3128));
      t.notOk(await reaches(lan.a, '172.30.0.1', 22, 1000));
      t.notOk(await reaches(lan.a, '172.30.0.2', 3128, 1000), 'a member is not the proxy now');
      t.same((await tryAll(lan)).arrived, []);
    });
    if (bridgeNf === '1') return;

    await t.test('a member with a link elsewhere is told of, and the proxy with one is not', async (t) => {
      for (const ns of [lan.p, lan.a])
        await ns.must(['ip', 'link', 'add', 'up1', 'type', 'veth', 'peer', 'name', 'up2']);
      t.match(await lan.fence('apply', ...words), { code: 0, stderr: '' }, 'down it leads nowhere');
      t.match(await lan.fence('verify', ...words), { code: 0 });
      for (const ns of [lan.p, lan.a]) await ns.must(['ip', 'link', 'set', 'up1', 'up']);
      const line = 'the member at `v-a` has another link, `up1`, which no fence is around';
      t.match(await lan.fence('apply', ...words), { code: 0, stderr: `warning: ${line}\n` });
      t.match(await lan.fence('verify', ...words), {
        code: 1,
        stdout: `there are ways around it:\n  ${line}\n`,
      });
      for (const ns of [lan.p, lan.a]) await ns.must(['ip', 'link', 'del', 'up1']);
      t.match(await lan.fence('verify', ...words), { code: 0 });
    });

    await t.test('the watch follows members that come and go, and puts the bridge table back', async (t) => {
      await lan.fence('apply', ...words);
      const watch = lan.start('watch', ...words);
      await watch.line((line) => line.includes('watching'));
      const c = await lan.plug('c', '12');
      await watch.line((line) => line.includes('follows its bridges: v-a, v-b, v-c'));
      t.ok(await reaches(c, '172.30.0.2', 3128));
      t.notOk(await reaches(c, '172.30.0.11', 80, 1000));
      await lan.host.must(['nft', 'flush chain bridge sallyport_t forward']);
      t.match(
        await watch.line((line) => line.includes('put back')),
        /chain `bridge forward`: rule 1 is missing: iifname \{ v-a, v-b, v-c \} oifname != v-p/,
      );
      // A member takes the proxy's address: the proxy's port is known and stays, and the member's packets are forged ones.
      await c.must(['ip', 'addr', 'add', '172.30.0.2/24', 'dev', 'eth0']);
      t.ok(await reaches(lan.a, '172.30.0.2', 3128));
      await watch.stop();
      t.match(await lan.fence('apply', ...words), { code: 0 });
      t.notOk(await reaches(lan.a, '172.30.0.2', 3128, 1000), 'two claim the address: neither is believed');
      await c.must(['ip', 'addr', 'del', '172.30.0.2/24', 'dev', 'eth0']);
    });

    await t.test(
      'a namespace elsewhere whose link has the same numbers is not taken for a member',
      async (t) => {
        const [far, farther] = [await makeNetns(t, 'far'), await makeNetns(t, 'farther')];
        const [port] = JSON.parse(await lan.host.must(['ip', '-j', 'link', 'show', 'v-a'])) as {
          ifindex: number;
          link_index: number;
        }[];
        const twin = `ip link add eth0 index ${port?.link_index} type veth peer name x index ${port?.ifindex} netns ${farther.name}`;
        await far.must(['sh', '-c', `${twin}; ip addr add 172.30.0.2/24 dev eth0`]);
        t.match(await lan.fence('apply', ...words), { code: 0, stderr: '' });
        t.ok(await reaches(lan.a, '172.30.0.2', 3128), 'the proxy is still the proxy');
        t.match(
          await lan.a.must(['nft', 'list', 'tables']),
          /^table inet sallyport_r/m,
          'a member cannot ask',
        );
        t.equal(await lan.p.must(['nft', 'list', 'tables']), '', 'the proxy can');
        t.equal(await far.must(['nft', 'list', 'tables']), '', 'whoever is no member is left alone');
      },
    );

    await t.test('both tables go back when unconfirmed, and go away when removed', async (t) => {
      await lan.fence('apply', ...words);
      const before = await lan.host.must(['nft', '-s', 'list', 'ruleset']);
      t.match(await lan.fence('apply', ...atHost, '--confirm', '1s'), {
        code: 1,
        stderr: /as they were before/,
      });
      t.equal(await lan.host.must(['nft', '-s', 'list', 'ruleset']), before);
      t.match(await lan.fence('remove', '--table', 'sallyport_t'), { code: 0 });
      t.equal(await lan.host.must(['nft', 'list', 'ruleset']), '');
      t.equal(await lan.a.must(['nft', 'list', 'ruleset']), '');
    });
  });
}
