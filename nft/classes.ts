// The closed list of what the fence drops, each kind with its own counter. The order is that of the rules: a packet belongs to the first that fits.

export type DropClass =
  | 'ipv6'
  | 'spoof'
  | 'metadata'
  | 'multicast'
  | 'dns'
  | 'icmp'
  | 'host'
  | 'lateral'
  | 'udp'
  | 'direct'
  | 'other'
  | 'forward'
  | 'inbound'
  | 'layer2';

/** Every class with its meaning. The first eleven classify what leaves a sandbox; `forward` and `inbound` are the belts; `layer2` is for frames. */
export const dropClasses: readonly { readonly name: DropClass; readonly sentence: string }[] = [
  { name: 'ipv6', sentence: 'any IPv6 packet from a sandbox: the fence has no IPv6 way out' },
  { name: 'spoof', sentence: 'an IPv4 packet whose source is not the address that this sandbox was given' },
  {
    name: 'metadata',
    sentence: 'any packet to an address where clouds serve instance metadata and credentials',
  },
  { name: 'multicast', sentence: 'any packet to a multicast or broadcast address' },
  {
    name: 'dns',
    sentence:
      'TCP or UDP to port 53 (DNS) or 853 (DNS over TLS or QUIC), wherever it goes but to the stub of the proxy',
  },
  { name: 'icmp', sentence: 'any ICMP packet, wherever it goes' },
  { name: 'host', sentence: "any other packet to an address of this machine: a port other than the proxy's" },
  {
    name: 'lateral',
    sentence: 'any other packet into the address pool of the sandboxes: from one to another',
  },
  { name: 'udp', sentence: 'any other UDP packet, such as QUIC' },
  { name: 'direct', sentence: 'any other TCP packet: a connection around the proxy' },
  { name: 'other', sentence: 'every other protocol: SCTP, GRE, ESP, raw IP' },
  {
    name: 'forward',
    sentence: 'a packet about to be routed from or to a sandbox, whatever let it get that far',
  },
  {
    name: 'inbound',
    sentence: "a packet to a sandbox that is not the proxy's reply: nothing may open a connection inwards",
  },
  {
    name: 'layer2',
    sentence:
      "any frame that is neither IP nor an ARP question or answer to the proxy: a VLAN tag, somebody else's ARP, a raw ethertype; on a bridge and on the link of a run",
  },
];

/** The classes of packets: those that the table of the family `inet` counts for a run. */
export const packetClasses: readonly DropClass[] = dropClasses
  .map(({ name }) => name)
  .filter((name) => name !== 'layer2');

export type CounterName = `drop_${DropClass}`;

/** Name of a class's counter in the table. Prefixed because nft 1.0.6 takes a counter called `udp` or `icmp` for the protocol. */
export function counterOf(name: DropClass): CounterName {
  return `drop_${name}`;
}
