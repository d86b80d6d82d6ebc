// Where the launch gate stands: the boundary it looks at, and the addresses that are lent to it for its time. Makes nothing.
import type { AddressPorts } from '../doors.ts';
import type { RunNames } from '../names.ts';
import { slotAt, slotCount, type Slot } from '../slot.ts';

/** One boundary, as it should be. */
export interface Place {
  readonly names: RunNames;
  readonly slot: Slot;
  /** Ports of the proxy's address that the fence lets the sandbox reach. */
  readonly ports: readonly number[];
  /** The same of UDP; empty without a DNS stub. */
  readonly datagrams: readonly number[];
  /** Further addresses of the link, with their ports: services whose port is taken at the proxy's. */
  readonly services: readonly AddressPorts[];
  /** The run's own directory, for files that live as long as the gate. */
  readonly directory: string;
}

/** Addresses that exist while the gate looks; every one leads to a link of ours. */
export interface Lent {
  /** A second address of this machine, on the sandbox's link. */
  readonly host: string;
  /** Routed to one end of the witness pair. */
  readonly witness: string;
  /** A source that the witness pair may use. */
  readonly stranger: string;
  /** Routed onto the sandbox's link, and nobody's. */
  readonly onLink: string;
  /** As that, for a question that is made into another on its way out. */
  readonly forged: string;
  /** What the sandbox sends to before its packets are disguised: routed to the proxy's address. */
  readonly carrier: string;
  /** Reached by a route that was added inside, and by no other. */
  readonly routed: string;
  readonly six: Readonly<Record<'host' | 'sandbox' | 'carrier', string>>;
}

/** RFC 2544 keeps 198.18.0.0/15 for tests of networks: eight addresses for each of the 4,096 slots. */
export function lentTo({ number }: Slot): Lent {
  const four = (offset: number): string => {
    const at = number * 8 + offset;
    return `198.${18 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`;
  };
  const six = `2001:db8:5a11:${number.toString(16)}`;
  return {
    host: four(1),
    witness: four(2),
    stranger: four(3),
    onLink: four(4),
    forged: four(7),
    carrier: four(5),
    routed: four(6),
    six: { host: `${six}::1`, sandbox: `${six}::2`, carrier: `${six}:1::1` },
  };
}

/** Names of what the gate makes in the host's namespace. At most 15 bytes, as of every link. */
export function gateNames({ id, table }: RunNames): {
  readonly table: string;
  readonly questions: string;
  readonly near: string;
  readonly far: string;
} {
  return { table: `${table}_gate`, questions: `${table}_gate_dns`, near: `sg-${id}`, far: `sh-${id}` };
}

/** Sandboxes that are not this one: the next, and one in the other half of the pool. */
export function neighboursOf({ number }: Slot): { readonly next: Slot; readonly far: Slot } {
  return { next: slotAt((number + 1) % slotCount), far: slotAt((number + slotCount / 2) % slotCount) };
}

/** Ports on which a machine often listens; none of them is the sandbox's business. */
const scanned = [
  1, 7, 21, 22, 23, 25, 80, 110, 111, 139, 143, 179, 389, 443, 445, 465, 587, 631, 993, 1080, 1433, 2049,
  2375, 2376, 2379, 3000, 3306, 3389, 4243, 5000, 5432, 5672, 5900, 5984, 6379, 6443, 8000, 8080, 8443, 8888,
  9000, 9090, 9091, 9100, 9200, 9418, 9464, 10250, 11211, 15672, 27017, 32768, 50000, 61000, 65535,
];

/** Ports of the proxy's address that must be shut: those, and each open port's neighbours. Never empty; DNS has probes of its own. */
export function closedPorts(open: readonly number[]): readonly number[] {
  const beside = open.flatMap((port) => [port - 1, port + 1]);
  const isShut = (port: number): boolean =>
    !open.includes(port) && port > 0 && port < 65_536 && port !== 53 && port !== 853;
  return [...new Set([...scanned, ...beside])].filter(isShut);
}

/** The few of them that a slip is most likely to open: the first, ssh, and what is next to the proxy's or to DNS. */
export function nearPorts(open: readonly number[]): readonly number[] {
  const shut = closedPorts(open);
  const [first = 0] = shut;
  return [...new Set([first, ...[22, (open[0] ?? 0) + 1, 54].filter((port) => shut.includes(port))])];
}
