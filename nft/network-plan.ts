// The part of the fence around a bridge with many members that was made by somebody else, such as a container engine. Two tables: packets (`inet`)
// and frames between members (`bridge`), which never meet `inet` unless br_netfilter is on. Pure; bridge.ts finds out who is plugged in.
import type { DropClass } from './classes.ts';
import { drops, type ChainRule } from './chain-rule.ts';
import * as o from './objects.ts';
import { asPrefix, type Network } from './spec.ts';

/** Where clouds serve metadata: AWS/GCP/Azure/Oracle, AWS ECS tasks, AWS EKS pods, AWS DNS, AWS NTP, Alibaba, Azure wire server, Oracle. */
export const metadata = [
  '100.100.100.200',
  '168.63.129.16',
  '169.254.169.123',
  '169.254.169.253',
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '192.0.0.192',
];
export const multicast: readonly (string | o.Prefix)[] = [{ addr: '224.0.0.0', len: 4 }, '255.255.255.255'];

/** Chain of what a member sends. */
export function chainOf({ name }: { readonly name: string }): string {
  return `from_${name}`;
}

/** What the members send by IP, when it reaches this machine, and the belts; as for one sandbox, with a network for its address. */
export function packetRules(network: Network): readonly ChainRule[] {
  const chain = chainOf(network);
  const from = o.arrivesOn(network.interface);
  const to = o.leavesOn(network.interface);
  const isMember = network.door !== 'host';
  const bridged = isMember
    ? [
        ['forward', from, to, ...toProxy(network), o.accept] as const,
        ['forward', from, to, ...fromProxy(network), o.accept] as const,
        ['postrouting', to, ...toProxy(network), o.accept] as const,
      ]
    : [['input', from, ...toProxy(network), o.accept] as const];
  return [
    ['prerouting', from, o.jump(chain)],
    [chain, ...toProxy(network), o.accept],
    ...(isMember ? [[chain, ...fromProxy(network), o.accept] as const] : []),
    ...drops(chain, [
      ['ipv6', o.isFamily('ipv6')],
      ['spoof', o.sourceIsNot(asPrefix(network.subnet))],
      ...special,
      ['host', o.destinationIs('local')],
      ...rest(network),
    ]),
    ...bridged,
    ...drops('input', [['host', from]]),
    ...drops('forward', [
      ['forward', from],
      ['forward', to],
    ]),
    ['postrouting', to, ...fromProxy(network), o.accept],
    ...drops('postrouting', [['inbound', to]]),
  ];
}

/** What members may send each other as frames: questions for the proxy's address, and TCP to its ports; only its port may answer. */
export function frameRules(network: Network): readonly ChainRule[] {
  const { members, subnet, door } = network;
  const chain = chainOf(network);
  const net = asPrefix(subnet);
  return [
    ...(members.length === 0 ? [] : [['prerouting', o.arrivesOn(...members), o.jump(chain)] as const]),
    ...(typeof door === 'object' ? proxyFrames(network, door.port) : []),
    // Whoever was plugged in since we looked is a member, as far as that shows.
    ['prerouting', o.source(net), o.jump(chain)],
    ['prerouting', o.arp('saddr ip', '==', net), o.jump(chain)],
    ...drops(chain, [
      ['layer2', o.isEther('8021q')],
      ['layer2', o.isEther('8021ad')],
    ]),
    [chain, ...asksForProxy(network), o.accept],
    [chain, ...toProxy(network), o.accept],
    ...drops(chain, [
      ['ipv6', o.isEther('ip6')],
      ['layer2', o.isNotEther('ip')],
      ['spoof', o.sourceIsNot(net)],
      ['spoof', o.source(network.proxy)],
      ...special,
      ...rest(network),
    ]),
    ...(typeof door === 'object' ? memberDoor(network, door.port) : hostDoor(network)),
  ];
}

/** The proxy is a member: whatever it does on this bridge, it only answers. */
function proxyFrames(network: Network, port: string): readonly ChainRule[] {
  const chain = `proxy_${network.name}`;
  return [
    ['prerouting', o.arrivesOn(port), o.jump(chain)],
    ...drops(chain, [
      ['layer2', o.isEther('8021q')],
      ['layer2', o.isEther('8021ad')],
    ]),
    [chain, ...tellsOfProxy(network), o.accept],
    [chain, ...fromProxy(network), o.accept],
    ...drops(chain, [['inbound']]),
  ];
}

/** A frame for the proxy's address may still carry another member's hardware address: the port decides. */
function memberDoor(network: Network, port: string): readonly ChainRule[] {
  const { members } = network;
  const net = asPrefix(network.subnet);
  const all = [...members, port];
  return [
    ...drops('forward', [
      ...some(members, (names): Row => ['lateral', o.arrivesOn(...names), o.leavesNotOn(port)]),
      ['lateral', o.source(net), o.arrivesNotOn(port), o.leavesNotOn(port)],
      ...some(members, (names): Row => ['inbound', o.leavesOn(...names), o.arrivesNotOn(port)]),
    ]),
    ...drops('input', [['host', o.arrivesOn(...all)]]),
    ...drops('output', [['inbound', o.leavesOn(...all)]]),
  ];
}

/** The proxy is on this machine, or nowhere to be found: then nobody gets anywhere. */
function hostDoor(network: Network): readonly ChainRule[] {
  const { members, door } = network;
  const net = asPrefix(network.subnet);
  const answers: readonly ChainRule[] =
    door === 'host' && members.length > 0
      ? [
          ['output', o.leavesOn(...members), ...tellsOfProxy(network), o.accept],
          ['output', o.leavesOn(...members), ...fromProxy(network), o.accept],
        ]
      : [];
  return [
    ...drops('forward', [
      ...some(members, (names): Row => ['lateral', o.arrivesOn(...names)]),
      ...some(members, (names): Row => ['inbound', o.leavesOn(...names)]),
      ['lateral', o.source(net)],
    ]),
    ...(door === 'nowhere'
      ? drops(
          'input',
          some(members, (names): Row => ['host', o.arrivesOn(...names)]),
        )
      : []),
    ...answers,
    ...drops(
      'output',
      some(members, (names): Row => ['inbound', o.leavesOn(...names)]),
    ),
  ];
}

type Row = readonly [DropClass, ...o.Match[]];

/** Rows that every kind of sandbox has, before and after what is the host's. */
const special: readonly Row[] = [
  ['metadata', o.destination(...metadata)],
  ['multicast', o.destination(...multicast)],
  ['dns', o.isProtocol('tcp', 'udp'), o.port('th', 'dport', [53, 853])],
  ['icmp', o.isProtocol('icmp')],
];

function rest({ subnet }: Network): readonly Row[] {
  return [
    ['lateral', o.destination(asPrefix(subnet))],
    ['udp', o.isProtocol('udp', 'udplite')],
    ['direct', o.isProtocol('tcp')],
    ['other'],
  ];
}

function some(members: readonly string[], row: (names: readonly string[]) => Row): readonly Row[] {
  return members.length === 0 ? [] : [row(members)];
}

function toProxy({ subnet, proxy, ports }: Network): readonly o.Match[] {
  return [
    o.source(asPrefix(subnet)),
    o.sourceIsNot(proxy),
    o.destination(proxy),
    o.port('tcp', 'dport', ports),
  ];
}

function fromProxy({ subnet, proxy, ports }: Network): readonly o.Match[] {
  return [o.source(proxy), o.destination(asPrefix(subnet)), o.port('tcp', 'sport', ports), o.opensNothing];
}

function asksForProxy({ subnet, proxy }: Network): readonly o.Match[] {
  return [
    o.arp('saddr ip', '==', asPrefix(subnet)),
    o.arp('saddr ip', '!=', proxy),
    o.arp('daddr ip', '==', proxy),
  ];
}

function tellsOfProxy({ subnet, proxy }: Network): readonly o.Match[] {
  return [o.arp('saddr ip', '==', proxy), o.arp('daddr ip', '==', asPrefix(subnet))];
}
