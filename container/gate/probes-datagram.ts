// The rows of the launch gate's table for a sandbox that may send UDP to its proxy, which is to its DNS stub: that port and no other, in
// either direction, at both walls. Sends nothing.
import type { DropClass } from '../../nft/index.ts';
import { packet, udp, type Packet } from './packet.ts';
import { lentTo, neighboursOf, type Place } from './place.ts';
import type { ProbeRow } from './probes.ts';

/** The class in which UDP to `port` of this machine is dropped. */
const classOf = (port: number): DropClass => (port === 53 || port === 853 ? 'dns' : 'host');

/** After a port, and one that is often open. */
const shutBeside = (datagrams: readonly number[]): readonly number[] =>
  [...new Set(datagrams.flatMap((port) => [port + 1, 22]))].filter((port) => !datagrams.includes(port));

/** What the sandbox might send there. */
export function outwardDatagrams({ slot, datagrams }: Place): readonly ProbeRow[] {
  const lent = lentTo(slot);
  const { next } = neighboursOf(slot);
  const shut = shutBeside(datagrams);
  return [
    ...datagrams.flatMap((port): readonly ProbeRow[] => {
      const accepted = udp(slot.proxy, port);
      const behind = (id: string, what: string, change: Partial<Packet>): ProbeRow => [
        `behind-${id}-${port}`,
        `made into ${what} behind the first wall`,
        'host',
        accepted,
        { hook: 'input', behind: change },
      ];
      return [
        [`datagram-${port}`, `UDP to the proxy's port ${port} (control)`, null, accepted],
        [
          `datagram-input-${port}`,
          `UDP as far as the proxy's socket at ${port} (control)`,
          null,
          accepted,
          { hook: 'input' },
        ],
        [
          `datagram-spoof-${port}`,
          `another sandbox's source, by UDP to the proxy's port ${port}`,
          'spoof',
          { ...accepted, from: next.sandbox },
        ],
        [
          `datagram-other-${port}`,
          `UDP to port ${port} of another address of this machine`,
          classOf(port),
          udp(lent.host, port),
        ],
        [
          `datagram-udplite-${port}`,
          `UDP-Lite to the proxy's port ${port}`,
          'host',
          packet('udplite', slot.proxy, port),
        ],
        behind('datagram-source', 'UDP from another source', { from: lent.onLink }),
        behind('datagram-address', 'UDP to another address of this machine', { to: lent.host }),
        ...shut.map((other) =>
          behind(`datagram-port-${other}`, `UDP to port ${other} of this machine`, { ports: [other] }),
        ),
      ];
    }),
    ...shut.map((port): ProbeRow => [
      `datagram-shut-${port}`,
      `UDP to port ${port} of the proxy's address`,
      classOf(port),
      udp(slot.proxy, port),
    ]),
  ];
}

/** What this machine might send in. */
export function inwardDatagrams({ slot, datagrams }: Place): readonly ProbeRow[] {
  const lent = lentTo(slot);
  const shut = shutBeside(datagrams);
  const answer = (sport: number): Packet => ({
    ...udp(slot.sandbox, 8080),
    from: slot.proxy,
    sport,
  });
  return [
    ...datagrams.flatMap((port): readonly ProbeRow[] => [
      [`reply-datagram-${port}`, `the proxy's answer from UDP port ${port} (control)`, null, answer(port)],
      [
        `in-datagram-source-${port}`,
        `UDP from port ${port} of another address`,
        'inbound',
        { ...answer(port), from: lent.host },
      ],
      [
        `in-datagram-address-${port}`,
        `the proxy's answer from UDP port ${port} to another address on the link`,
        'inbound',
        { ...answer(port), to: lent.onLink },
      ],
      [
        `in-datagram-udplite-${port}`,
        `UDP-Lite into the sandbox from port ${port}`,
        'inbound',
        { ...answer(port), protocol: 'udplite' },
      ],
    ]),
    ...shut.map((port): ProbeRow => [
      `in-datagram-${port}`,
      `UDP into the sandbox from port ${port}`,
      'inbound',
      answer(port),
    ]),
  ];
}
