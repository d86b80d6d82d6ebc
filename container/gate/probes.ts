// Every probe of the launch gate as one literal table: what is sent, where the fence meets it, and which counter must rise. Sends nothing.
// The destinations are documentation, metadata, multicast and pool addresses, and whatever the fence lets by is dropped one step later.
import type { DropClass } from '../../nft/index.ts';
import { packet, tcp, typeAsPort, udp, type Packet } from './packet.ts';
import { closedPorts, lentTo, nearPorts, neighboursOf, type Lent, type Place } from './place.ts';
import { outwardDatagrams } from './probes-datagram.ts';
import { inwardProbes } from './probes-inward.ts';
import { serviceProbes, serviceReplies } from './probes-services.ts';
import { sixProbes } from './probes-six.ts';

/** One thing that must not work, or with `meets: null` one that must. */
export interface Probe {
  readonly id: string;
  readonly what: string;
  /** Who sends: a process inside, this process, or the far end of the witness pair. */
  readonly from: 'sandbox' | 'host' | 'witness';
  readonly family: 4 | 6;
  /** The hook of the fence that is to stop it. */
  readonly hook: Hook;
  /** The class whose counter must rise; null: the packet must pass (a control). */
  readonly meets: DropClass | null;
  /** As it leaves its sender. */
  readonly packet: Packet;
  /** What it is made into behind the first wall, as another table's NAT might. */
  readonly behind?: Partial<Packet>;
  /** A socket's own connection, known by its destination. Else the packet carries a mark. */
  readonly isReal?: boolean;
}

export type Hook = 'prerouting' | 'input' | 'forward' | 'postrouting';

export type ProbeRow = readonly [
  id: string,
  what: string,
  meets: DropClass | null,
  packet: Packet,
  more?: Partial<Probe>,
];

// RFC 5737 TEST-NET-1.
const elsewhere = '192.0.2.1';

const metadata = [
  '169.254.169.254',
  '169.254.169.253',
  '169.254.169.123',
  '169.254.170.2',
  '169.254.170.23',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
];

const echo = (to: string, type = 8): Packet => ({ ...packet('icmp', to), sport: typeAsPort(type) });

/** The probes of one place. `listener` is a port on which this machine listens at the proxy's address. */
export function probesOf(place: Place, listener: number): readonly Probe[] {
  return [
    ...outward(place, listener).map((row) => probe(row, { from: 'sandbox', family: 4, hook: 'prerouting' })),
    ...serviceProbes(place).map((row) => probe(row, { from: 'sandbox', family: 4, hook: 'prerouting' })),
    ...sixProbes(place).map((row) => probe(row, { from: 'sandbox', family: 6, hook: 'prerouting' })),
    ...[...inwardProbes(place), ...serviceReplies(place)].map((row) =>
      probe(row, { from: 'host', family: 4, hook: 'postrouting' }),
    ),
  ];
}

function probe(
  [id, what, meets, sent, more]: ProbeRow,
  usual: Pick<Probe, 'from' | 'family' | 'hook'>,
): Probe {
  return { ...usual, id, what, meets, packet: sent, ...more };
}

function outward(place: Place, listener: number): readonly ProbeRow[] {
  const { slot, ports, datagrams } = place;
  const lent = lentTo(slot);
  const { next, far } = neighboursOf(slot);
  const [port = 0] = ports;
  const closed = closedPorts(ports);
  return [
    ['proxy-ports', "TCP to the proxy's ports (control)", null, tcp(slot.proxy, ...ports)],
    [
      'proxy-input',
      "TCP as far as the proxy's sockets (control)",
      null,
      tcp(slot.proxy, ...ports),
      { hook: 'input' },
    ],
    ['tcp-443', 'TCP to port 443 elsewhere', 'direct', tcp(elsewhere, 443)],
    ['tcp-80', 'TCP to port 80 elsewhere', 'direct', tcp(elsewhere, 80)],
    ['tcp-22', 'TCP to port 22 elsewhere', 'direct', tcp(elsewhere, 22)],
    ['tcp-proxy-port', "TCP to the proxy's port elsewhere", 'direct', tcp(elsewhere, port)],
    [
      'tcp-mid-flow',
      'TCP of a flow from before the rules',
      'direct',
      { ...tcp(elsewhere, 443), flags: 'ack' },
    ],
    ['tcp-fragments', 'TCP in fragments', 'direct', { ...tcp(elsewhere, 443), isLarge: true }],
    ['tcp-reserved', 'TCP to an address of class E', 'direct', tcp('240.0.0.1', 443)],
    ['tcp-below-pool', 'TCP just below the pool', 'direct', tcp('10.218.255.254', 443)],
    ['tcp-above-pool', 'TCP just above the pool', 'direct', tcp('10.220.0.1', 443)],
    [
      'tcp-added-route',
      'a connection over a route added inside',
      'direct',
      tcp(lent.routed, 443),
      { isReal: true },
    ],
    ['dns-udp', 'DNS over UDP', 'dns', udp(elsewhere, 53)],
    ['dns-tcp', 'DNS over TCP', 'dns', tcp(elsewhere, 53)],
    ['dns-dot', 'DNS over TLS', 'dns', tcp(elsewhere, 853)],
    ['dns-doq', 'DNS over QUIC', 'dns', udp(elsewhere, 853)],
    // Unless the stub of the proxy, or a service of the run, is there.
    ...[53]
      .filter((one) => !datagrams.includes(one))
      .map((one): ProbeRow => [
        'dns-proxy-udp',
        "DNS over UDP to the proxy's address",
        'dns',
        udp(slot.proxy, one),
      ]),
    ...[53]
      .filter((one) => !ports.includes(one))
      .map((one): ProbeRow => [
        'dns-proxy-tcp',
        "DNS over TCP to the proxy's address",
        'dns',
        tcp(slot.proxy, one),
      ]),
    ...outwardDatagrams(place),
    ['dns-lateral', 'DNS to another sandbox', 'dns', udp(next.sandbox, 53)],
    ['udp-quic', 'QUIC', 'udp', udp(elsewhere, 443)],
    ['udp-54', 'UDP to the port after DNS', 'udp', udp(elsewhere, 54)],
    ['udp-ntp', 'NTP', 'udp', udp(elsewhere, 123)],
    ['udp-fragments', 'UDP in fragments', 'udp', { ...udp(elsewhere, 443), isLarge: true }],
    ['udplite', 'UDP-Lite', 'udp', packet('udplite', elsewhere)],
    ['udplite-53', 'UDP-Lite to port 53', 'udp', packet('udplite', elsewhere, 53)],
    ['icmp-echo', 'ICMP echo elsewhere', 'icmp', echo(elsewhere)],
    ['icmp-proxy', "ICMP echo to the proxy's address", 'icmp', echo(slot.proxy)],
    ['icmp-redirect', 'ICMP redirect to this machine', 'icmp', echo(slot.proxy, 5)],
    ['icmp-lateral', 'ICMP echo to another sandbox', 'icmp', echo(next.sandbox)],
    ...metadata.map((to): ProbeRow => [`metadata-${to}`, `metadata at ${to}`, 'metadata', tcp(to, 80)]),
    ['metadata-dns', 'DNS to a metadata address', 'metadata', udp('169.254.169.253', 53)],
    ['multicast-dns', 'DNS to a multicast address', 'multicast', udp('224.0.0.251', 53)],
    ['broadcast-dns', "DNS to the broadcast of the sandbox's link", 'multicast', udp(lastOf(slot.proxy), 53)],
    ['mdns', 'mDNS', 'multicast', udp('224.0.0.251', 5353)],
    ['llmnr', 'LLMNR', 'multicast', udp('224.0.0.252', 5355)],
    ['ssdp', 'SSDP', 'multicast', udp('239.255.255.250', 1900)],
    ['igmp', 'IGMP', 'multicast', { ...packet('igmp', '224.0.0.22'), sport: typeAsPort(0x22) }],
    ['broadcast', 'limited broadcast', 'multicast', udp('255.255.255.255', 67)],
    ['link-broadcast', "broadcast of the sandbox's link", 'multicast', udp(lastOf(slot.proxy), 137)],
    [
      'spoof-elsewhere',
      'a foreign source, elsewhere',
      'spoof',
      { ...tcp(elsewhere, 443), from: '203.0.113.7' },
    ],
    [
      'spoof-lateral',
      "another sandbox's source, to the proxy",
      'spoof',
      { ...tcp(slot.proxy, port), from: next.sandbox },
    ],
    ['spoof-proxy', "the proxy's source, elsewhere", 'spoof', { ...udp(elsewhere, 443), from: slot.proxy }],
    [
      'spoof-loopback',
      'a loopback source, to the proxy',
      'spoof',
      { ...tcp(slot.proxy, port), from: '127.0.0.1' },
    ],
    [
      'spoof-metadata',
      'a foreign source, to metadata',
      'spoof',
      { ...tcp('169.254.169.254', 80), from: '203.0.113.7' },
    ],
    ['dhcp', 'DHCP discover', 'spoof', { ...udp('255.255.255.255', 67), from: '0.0.0.0', sport: 68 }],
    [
      'host-scan',
      `a scan of ${closed.length} ports of the proxy's address`,
      'host',
      tcp(slot.proxy, ...closed),
    ],
    ['host-other', 'another address of this machine, on the proxy port', 'host', tcp(lent.host, port, 22)],
    ['host-udp', "UDP to the proxy's port", 'host', udp(slot.proxy, port)],
    ['host-gre', 'GRE to this machine', 'host', packet('gre', slot.proxy)],
    ['host-sctp', "SCTP to the proxy's port", 'host', packet('sctp', slot.proxy, port)],
    [
      'host-listener',
      'a connection to a port on which this machine listens',
      'host',
      tcp(slot.proxy, listener),
      { isReal: true },
    ],
    ['lateral-tcp', 'TCP to another sandbox', 'lateral', tcp(next.sandbox, port)],
    ['lateral-far', 'TCP to a sandbox far off', 'lateral', tcp(far.sandbox, 8080)],
    ['lateral-udp', 'UDP to another sandbox', 'lateral', udp(next.sandbox, 8080)],
    ['lateral-sctp', 'SCTP to another sandbox', 'lateral', packet('sctp', next.sandbox)],
    ['sctp', 'SCTP', 'other', packet('sctp', elsewhere)],
    ['sctp-53', 'SCTP to port 53', 'other', packet('sctp', elsewhere, 53)],
    ['gre', 'GRE', 'other', packet('gre', elsewhere)],
    ['esp', 'ESP', 'other', packet('esp', elsewhere)],
    ['ipip', 'IPv4 in IPv4', 'other', packet('ipip', elsewhere)],
    ['6in4', 'IPv6 in IPv4', 'other', packet('ipv6', elsewhere)],
    ['dccp', 'DCCP', 'other', packet('dccp', elsewhere)],
    ['ospf', 'OSPF', 'other', packet('ospf', elsewhere)],
    ['raw-253', 'a protocol without a name', 'other', packet('experiment', elsewhere)],
    ...behind(slot.proxy, ports, lent),
  ];
}

/** Accepted by the first wall, then changed: only the second wall is left. */
function behind(proxy: string, ports: readonly number[], lent: Lent): readonly ProbeRow[] {
  const [port = 0] = ports;
  const shut = nearPorts(ports);
  const accepted = tcp(proxy, port);
  const row = (id: string, what: string, hook: Hook, change: Partial<Packet>): ProbeRow => [
    id,
    `made into ${what} behind the first wall`,
    hook === 'input' ? 'host' : 'forward',
    accepted,
    { hook, behind: change },
  ];
  return [
    ...shut.map((other) =>
      row(`behind-port-${other}`, `TCP to port ${other} of this machine`, 'input', { ports: [other] }),
    ),
    row('behind-source', 'TCP from another source', 'input', { from: lent.onLink }),
    row('behind-address', 'TCP to another address of this machine', 'input', { to: lent.host }),
    row('behind-udp', "UDP to the proxy's port", 'input', { protocol: 'udp' }),
    row('behind-forward', 'a packet to be routed onwards', 'forward', { to: lent.witness }),
  ];
}

/** The broadcast address of the /28 whose first host is `proxy`. */
function lastOf(proxy: string): string {
  const [a, b, c, d] = proxy.split('.').map(Number);
  return `${a}.${b}.${c}.${(d ?? 0) + 14}`;
}
