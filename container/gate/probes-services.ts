// The rows of the launch gate's table for services that have an address of their own: that address is open on their ports and on nothing else.
// Most runs have none, and then there are no rows. Sends nothing.
import type { AddressPorts } from '../doors.ts';
import { tcp, udp, type Packet } from './packet.ts';
import { lentTo, nearPorts, neighboursOf, type Place } from './place.ts';
import type { Hook, ProbeRow } from './probes.ts';

/** What the sandbox sends. */
export function serviceProbes(place: Place): readonly ProbeRow[] {
  return place.services.flatMap((service) => [...ahead(service, place), ...behind(service, place)]);
}

function ahead({ address, ports }: AddressPorts, { slot }: Place): readonly ProbeRow[] {
  const [port = 0] = ports;
  const open = tcp(address, ...ports);
  const id = idOf(address);
  const strange = neighboursOf(slot).next.sandbox;
  return [
    [`${id}-ports`, `TCP to the services at ${address} (control)`, null, open],
    [`${id}-input`, `TCP as far as the sockets at ${address} (control)`, null, open, { hook: 'input' }],
    [`${id}-scan`, `TCP to other ports of ${address}`, 'host', tcp(address, ...nearPorts(ports))],
    [`${id}-udp`, `UDP to the port of a service at ${address}`, 'host', udp(address, port)],
    [`${id}-spoof`, `a foreign source, to ${address}`, 'spoof', { ...tcp(address, port), from: strange }],
  ];
}

function behind({ address, ports }: AddressPorts, { slot }: Place): readonly ProbeRow[] {
  const [port = 0] = ports;
  const lent = lentTo(slot);
  const row = (id: string, what: string, change: Partial<Packet>): ProbeRow => [
    `${idOf(address)}-behind-${id}`,
    `to ${address}, made into ${what} behind the first wall`,
    'host',
    tcp(address, port),
    { hook: 'input' satisfies Hook, behind: change },
  ];
  return [
    ...nearPorts(ports).map((other) => row(`port-${other}`, `TCP to port ${other}`, { ports: [other] })),
    row('source', 'TCP from another source', { from: lent.onLink }),
    row('address', 'TCP to another address of this machine', { to: lent.host }),
    row('udp', 'UDP to the port of the service', { protocol: 'udp' }),
  ];
}

/** What comes back from there. */
export function serviceReplies({ slot, services }: Place): readonly ProbeRow[] {
  const lent = lentTo(slot);
  return services.flatMap(({ address, ports }): readonly ProbeRow[] => {
    const [port = 0] = ports;
    const id = `${idOf(address)}-in`;
    const sent = (change: Partial<Packet>): Packet => ({
      protocol: 'tcp',
      to: slot.sandbox,
      from: address,
      ports: [8080],
      sport: port,
      flags: 'ack',
      ...change,
    });
    return [
      ...ports.map((one): ProbeRow => [
        `${id}-reply-${one}`,
        `the answer from port ${one} of ${address} (control)`,
        null,
        sent({ sport: one }),
      ]),
      [`${id}-udp`, `UDP into the sandbox from ${address}`, 'inbound', sent({ protocol: 'udp' })],
      [`${id}-syn`, `TCP opened into the sandbox from ${address}`, 'inbound', sent({ flags: 'syn' })],
      ...nearPorts(ports).map((shut): ProbeRow => [
        `${id}-ack-${shut}`,
        `TCP of a flow from before the rules, from port ${shut} of ${address}`,
        'inbound',
        sent({ sport: shut }),
      ]),
      [
        `${id}-source`,
        `TCP from that port of another address than ${address}`,
        'inbound',
        sent({ from: lent.host }),
      ],
      [
        `${id}-address`,
        `the answer from ${address} to another address on the link`,
        'inbound',
        sent({ to: lent.onLink }),
      ],
    ];
  });
}

function idOf(address: string): string {
  return `service-${address.split('.').at(-1)}`;
}
