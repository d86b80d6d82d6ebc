// The part of the fence that judges frames on a sandbox's own link: with raw frames of an AF_PACKET socket, read back, changed by others, removed.
import { join } from 'node:path';
import t from 'tap';
import {
  applyFence,
  createNft,
  readDrops,
  removeFence,
  verifyFence,
  type FenceSpec,
} from '../../../nft/index.ts';
import { needs } from '../../helpers/needs.ts';
import { makeLink, makeNetns, type Netns } from '../../helpers/netns.ts';

const skip = needs(t, ['root', 'netns', 'nft', 'ip', 'nsenter', 'perl']);
const frame = join(import.meta.dirname, '../world/frame.pl');
const ends = { interface: 'sp-a', address: '10.219.0.2', proxy: '10.219.0.1', ports: [3128] };
const spec: FenceSpec = {
  table: 'sallyport_test',
  pool: '10.219.0.0/16',
  sandboxes: [{ name: 'a', ...ends, frames: true }],
};
const table = ['netdev', spec.table];

/** A question by ARP (RFC 826): who has `about`, asks `from`. */
function arpBody(from: string, about: string): string {
  return `0001080006040001${'02'.repeat(6)}${inHex(from)}${'00'.repeat(6)}${inHex(about)}`;
}

function inHex(address: string): string {
  return Buffer.from(address.split('.').map(Number)).toString('hex');
}

const hostile: readonly (readonly [what: string, type: string, body: string])[] = [
  ['an experimental EtherType', '88b5', '00'],
  ['a VLAN tag around IP', '8100', '00010800'],
  ['a service tag', '88a8', '00010800'],
  ['LLDP', '88cc', '00'],
  ["ARP in another's name", '0806', arpBody('10.219.0.6', '10.219.0.1')],
  ["ARP in the proxy's name", '0806', arpBody('10.219.0.1', '10.219.0.1')],
  ['ARP for another address', '0806', arpBody('10.219.0.2', '10.219.0.6')],
];

t.test(
  'frames that are no business of a sandbox are dropped and counted, and its own pass',
  { skip },
  async (t) => {
    const { host, inside, nft } = await machine(t);
    const send = async (type: string, body: string): Promise<void> =>
      void (await inside.must(['perl', frame, type, 'broadcast', body]));
    const seen = async (): Promise<number> =>
      Number(
        /packets (\d+)/.exec(await host.must(['nft', 'list', 'counter', 'netdev', 'witness', 'past']))?.[1],
      );
    for (const [what, type, body] of hostile) {
      const before = await seen();
      await send(type, body);
      t.ok((await seen()) > before, `control: without the fence ${what} comes in`);
    }
    await applyFence(nft, spec);
    const [passed, dropped] = [await seen(), (await readDrops(nft, spec.table)).get('layer2') ?? 0];
    for (const [, type, body] of hostile) await send(type, body);
    t.equal(await seen(), passed, 'none comes in');
    t.equal((await readDrops(nft, spec.table)).get('layer2'), dropped + hostile.length, 'each is counted');
    await inside.must(['ip', 'neigh', 'flush', 'dev', 'eth0']);
    await inside.run(['ping', '-c1', '-W1', '10.219.0.1']);
    t.match(await inside.must(['ip', 'neigh', 'show', '10.219.0.1']), /lladdr/, 'the proxy is found by ARP');
    t.ok(((await readDrops(nft, spec.table)).get('icmp') ?? 0) > 0, 'IP is left to the packet rules');
  },
);

t.test(
  'whatever becomes of the table of frames, verify says it, and apply puts it right',
  { skip },
  async (t) => {
    const { host, nft } = await machine(t);
    const moved =
      'add chain netdev sallyport_test frames_a { type filter hook ingress device "sp-b" priority -300; }';
    const rules =
      'add rule netdev sallyport_test frames_a arp saddr ip 10.219.0.2 arp daddr ip 10.219.0.1 accept; add rule netdev sallyport_test frames_a ether type { ip, ip6 } accept; add rule netdev sallyport_test frames_a counter name drop_layer2 drop';
    const changes: readonly (readonly [what: string, command: string, said: RegExp])[] = [
      ['the table gone', 'delete table netdev sallyport_test', /table `netdev sallyport_test` is missing/],
      ['emptied', 'flush chain netdev sallyport_test frames_a', /chain `netdev frames_a`: rule 3 is missing/],
      ['opened', 'insert rule netdev sallyport_test frames_a accept', /rule 1 is not in the plan: accept/],
      [
        'another link',
        `flush chain netdev sallyport_test frames_a; delete chain netdev sallyport_test frames_a; ${moved}; ${rules}`,
        /chain `netdev frames_a` is bound as dev sp-b.*, not as dev sp-a/,
      ],
    ];
    for (const [what, command, said] of changes) {
      await applyFence(nft, spec);
      t.same(await verifyFence(nft, spec), []);
      await host.must(['nft', command]);
      t.match((await verifyFence(nft, spec)).join('\n'), said, what);
    }
  },
);

t.test(
  'what was saved comes back exactly, and remove leaves every other table to the byte',
  { skip },
  async (t) => {
    const { host, nft } = await machine(t);
    const ruleset = async (): Promise<string> => await host.must(['nft', '-s', 'list', 'ruleset']);
    const before = await ruleset();
    await applyFence(nft, spec);
    const saved = await nft.save(spec.table, ['inet', 'netdev']);
    const fenced = await ruleset();
    await removeFence(nft, spec.table);
    t.equal(await ruleset(), before);
    await host.must(['nft', '-f', '-'], { input: saved });
    t.equal(await ruleset(), fenced);
    t.same(await verifyFence(nft, spec), []);
    await applyFence(nft, { ...spec, sandboxes: [{ name: 'a', ...ends }] });
    t.equal(
      (await host.run(['nft', 'list', 'table', ...table])).code,
      1,
      'a fence without frames leaves none of it',
    );
  },
);

interface Machine {
  readonly host: Netns;
  readonly inside: Netns;
  readonly nft: ReturnType<typeof createNft>;
}

/** With another program's table on the same link, which counts what gets by. */
async function machine(t: { teardown(handler: () => Promise<void>): void }): Promise<Machine> {
  const [host, inside] = [await makeNetns(t, 'frames'), await makeNetns(t, 'inside')];
  await makeLink(
    { ns: host, dev: 'sp-a', addresses: ['10.219.0.1/30'] },
    { ns: inside, dev: 'eth0', addresses: ['10.219.0.2/30'] },
  );
  await host.must(['ip', 'link', 'add', 'sp-b', 'type', 'veth', 'peer', 'name', 'far']);
  const witness = 'ether type != { ip, ip6 } counter name past';
  await host.must([
    'nft',
    `add table netdev witness; add counter netdev witness past; add chain netdev witness c { type filter hook ingress device "sp-a" priority 0; }; add rule netdev witness c ${witness}`,
  ]);
  return { host, inside, nft: createNft({ enter: host.enter }) };
}
