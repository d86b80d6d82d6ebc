// The rows of the launch gate's table that go towards the sandbox, and the controls of the second wall. Sends nothing.
import { typeAsPort, type Packet } from './packet.ts';
import { lentTo, nearPorts, type Place } from './place.ts';
import { inwardDatagrams } from './probes-datagram.ts';
import type { ProbeRow } from './probes.ts';

/** What this machine, or one beyond it, might send in. */
export function inwardProbes(place: Place): readonly ProbeRow[] {
  const { slot, ports } = place;
  const lent = lentTo(slot);
  const [port = 0] = ports;
  const sent = (protocol: Packet['protocol'], more: Partial<Packet> = {}): Packet => ({
    protocol,
    to: slot.sandbox,
    from: slot.proxy,
    ports: [8080],
    ...more,
  });
  const reply: Packet = sent('tcp', { sport: port, flags: 'ack' });
  const beyond: Packet = { protocol: 'udp', to: lent.witness, from: lent.stranger, ports: [8080] };
  const forward = { hook: 'forward', from: 'witness' } as const;
  const six: Packet = { protocol: 'tcp', to: lent.six.sandbox, from: lent.six.host, ports: [8080] };
  return [
    ...ports.map((one): ProbeRow => [
      `reply-${one}`,
      `the proxy's answer from port ${one} (control)`,
      null,
      { ...reply, sport: one },
    ]),
    ...inwardDatagrams(place),
    ['in-udp', 'UDP into the sandbox', 'inbound', sent('udp')],
    [
      'in-udp-proxy-port',
      "UDP into the sandbox from the proxy's port",
      'inbound',
      sent('udp', { sport: port }),
    ],
    ['in-syn', 'TCP opened into the sandbox', 'inbound', sent('tcp')],
    [
      'in-syn-proxy-port',
      "TCP opened into the sandbox from the proxy's port",
      'inbound',
      sent('tcp', { sport: port }),
    ],
    ...nearPorts(ports).map((shut): ProbeRow => [
      `in-ack-${shut}`,
      `TCP of a flow from before the rules, from port ${shut}`,
      'inbound',
      sent('tcp', { sport: shut, flags: 'ack' }),
    ]),
    ['in-source', "TCP from the proxy's port of another address", 'inbound', { ...reply, from: lent.host }],
    [
      'in-address',
      "the proxy's answer to another address on the link",
      'inbound',
      { ...reply, to: lent.onLink },
    ],
    ['in-icmp', 'ICMP echo into the sandbox', 'inbound', sent('icmp', { sport: typeAsPort(8) })],
    ['in-sctp', 'SCTP into the sandbox', 'inbound', sent('sctp')],
    ['in-six', 'IPv6: TCP opened into the sandbox', 'inbound', six, { family: 6 }],
    [
      'in-forward',
      'a packet from beyond this machine, routed into the sandbox',
      'forward',
      beyond,
      { ...forward, behind: { to: slot.sandbox } },
    ],
    [
      'in-forward-tcp',
      'TCP from beyond this machine, routed into the sandbox',
      'forward',
      { ...beyond, protocol: 'tcp' },
      { ...forward, behind: { to: slot.sandbox } },
    ],
    [
      'around-forward',
      'a packet that neither comes from the sandbox nor goes to it (control)',
      null,
      beyond,
      { ...forward, behind: { to: lent.witness } },
    ],
  ];
}
