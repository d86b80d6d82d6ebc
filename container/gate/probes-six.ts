// The IPv6 rows of the launch gate's table, for the moment in which the link has addresses that look global. Sends nothing.
import { packet, typeAsPort, type Packet } from './packet.ts';
import { lentTo, type Place } from './place.ts';
import type { ProbeRow } from './probes.ts';

// RFC 3849: documentation.
const elsewhere = '2001:db8:ffff::1';

const row = (id: string, what: string, sent: Packet): ProbeRow => [
  `six-${id}`,
  `IPv6: ${what}`,
  'ipv6',
  sent,
];

/** What a sandbox with IPv6 might try. */
export function sixProbes({ slot, ports }: Place): readonly ProbeRow[] {
  const { host } = lentTo(slot).six;
  const [port = 0] = ports;
  return [
    row('proxy-port', "TCP to this machine, on the proxy's port", packet('tcp', host, port)),
    row('tcp', 'TCP elsewhere', packet('tcp', elsewhere, 443)),
    row('quic', 'QUIC elsewhere', packet('udp', elsewhere, 443)),
    row('dns', 'DNS to this machine', packet('udp', host, 53)),
    row('echo', 'echo elsewhere', { ...packet('icmpv6', elsewhere), sport: typeAsPort(128) }),
    row('link-local', 'TCP between link-local addresses', {
      ...packet('tcp', 'fe80::1', port),
      from: 'fe80::2',
    }),
    row('mdns', 'mDNS', packet('udp', 'ff02::fb', 5353)),
    row('all-nodes', 'all nodes of the link', packet('udp', 'ff02::1')),
    row('spoof', 'a foreign source', { ...packet('tcp', host, port), from: '2001:db8:eeee::7' }),
    row('gre', 'GRE elsewhere', packet('gre', elsewhere)),
    row('metadata', 'metadata at fd00:ec2::254', packet('tcp', 'fd00:ec2::254', 80)),
  ];
}
