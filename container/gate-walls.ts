// The walls the launch gate runs into, as a table: what is tried, and which counter of the fence must rise. Nothing here leaves the machine:
// the addresses are documentation, link-local and pool addresses, and every packet meets the fence first.
import type { DropClass } from '../nft/index.ts';
import type { Slot } from './slot.ts';

/** One thing that must not work. */
export interface Wall {
  readonly name: string;
  readonly kind: 'tcp' | 'udp4' | 'udp6' | 'ping';
  readonly address: string;
  readonly port: number;
  /** The counter that must rise when the packet really meets the fence. */
  readonly counter: DropClass;
  /** False for what is on the link itself: there the kernel has a route, and only the fence stands. */
  readonly isRouted: boolean;
}

/** Unique local addresses of the link while IPv6 is on for the probe. */
export const ipv6Link = { sandbox: 'fd73:6c70::2/64', host: 'fd73:6c70::1' } as const;

// RFC 5737 TEST-NET-1: nobody answers there, should the fence be missing.
const elsewhere = '192.0.2.1';

/** The walls of a run. `hostPort` is a port on which the host listens at the proxy's address. */
export function wallsOf(slot: Slot, hostPort: number): readonly Wall[] {
  return [
    { name: 'direct TCP', kind: 'tcp', address: elsewhere, port: 443, counter: 'direct', isRouted: true },
    { name: 'DNS over UDP', kind: 'udp4', address: elsewhere, port: 53, counter: 'dns', isRouted: true },
    { name: 'other UDP (QUIC)', kind: 'udp4', address: elsewhere, port: 443, counter: 'udp', isRouted: true },
    { name: 'ICMP', kind: 'ping', address: elsewhere, port: 0, counter: 'icmp', isRouted: true },
    { name: 'IPv6', kind: 'udp6', address: ipv6Link.host, port: 443, counter: 'ipv6', isRouted: true },
    {
      name: 'metadata address',
      kind: 'tcp',
      address: '169.254.169.254',
      port: 80,
      counter: 'metadata',
      isRouted: true,
    },
    {
      name: 'other sandbox',
      kind: 'tcp',
      address: slot.neighbour,
      port: 3128,
      counter: 'lateral',
      isRouted: true,
    },
    { name: 'host port', kind: 'tcp', address: slot.proxy, port: hostPort, counter: 'host', isRouted: false },
  ];
}
