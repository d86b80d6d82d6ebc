// One packet of the launch gate, and the mark by which the kernel's counters know it again. Sends nothing.

/** IANA protocol numbers of what is sent. */
export const protocols = {
  icmp: 1,
  igmp: 2,
  ipip: 4,
  tcp: 6,
  udp: 17,
  dccp: 33,
  ipv6: 41,
  gre: 47,
  esp: 50,
  icmpv6: 58,
  ospf: 89,
  sctp: 132,
  udplite: 136,
  experiment: 253,
} as const;

export type Protocol = keyof typeof protocols;

/** What is on the wire. What is not said is as an ordinary UDP socket would send it. */
export interface Packet {
  readonly protocol: Protocol;
  readonly to: string;
  readonly from?: string;
  readonly sport?: number;
  /** One packet to each. */
  readonly ports: readonly number[];
  readonly flags?: TcpFlags;
  /** Larger than the link takes, so that it goes in pieces. */
  readonly isLarge?: boolean;
}

/** The TCP flags of RFC 9293 §3.1 that matter to a stateless fence. */
export type TcpFlags = 'syn' | 'ack';

const flagBits = { syn: 0x02, ack: 0x10 } as const;
const largeBytes = 3000;

/**
 * The bytes after the first eight of the transport header. A UDP datagram whose protocol field is changed on its way out is a packet of
 * that protocol: the ports stay where they are, length and checksum become TCP's sequence number, and this becomes its acknowledgment
 * number (the mark) and what follows.
 */
export function payloadOf(mark: number, { flags = 'syn', isLarge = false }: Packet): Buffer {
  const bytes = Buffer.alloc(isLarge ? largeBytes : 12);
  bytes.writeUInt32BE(mark, 0);
  bytes.writeUInt8(0x50, 4);
  bytes.writeUInt8(flagBits[flags], 5);
  bytes.writeUInt16BE(0xffff, 6);
  return bytes;
}

/** One to each of `ports`; those that have none get discard's. */
export function packet(protocol: Protocol, to: string, ...ports: readonly number[]): Packet {
  return { protocol, to, ports: ports.length === 0 ? [9] : ports };
}

export const tcp = (to: string, ...ports: readonly number[]): Packet => packet('tcp', to, ...ports);
export const udp = (to: string, port: number): Packet => packet('udp', to, port);

/** The first two bytes of an ICMP or IGMP message are type and code: where the source port of UDP stands. */
export function typeAsPort(type: number): number {
  return type << 8;
}
