// The kinds of frames that the gate tries, and its two tables for them: one inside that makes them, one on this machine that counts each a step
// ahead of the fence and a step behind it. Loads nothing.
import { accept, count, drop, field, isEqual, newTable, type Words } from './nft-words.ts';
import { gateNames, lentTo, neighboursOf, type Place } from './place.ts';

/** One kind of frame. */
export interface FrameKind {
  readonly id: string;
  readonly what: string;
  /** EtherType, from the registry of the IEEE; null for ARP. */
  readonly type: number | null;
  /** True for what must pass. */
  readonly isControl: boolean;
  /** True for what the sandbox's kernel does not send by itself. */
  readonly isDisguised: boolean;
}

const frame = (id: string, what: string, type: number): FrameKind => {
  return { id: `frame-${id}`, what, type, isControl: false, isDisguised: true };
};
const arp = (id: string, what: string, more: Partial<FrameKind> = {}): FrameKind => {
  return { id, what, type: null, isControl: false, isDisguised: false, ...more };
};

export const frameKinds: readonly FrameKind[] = [
  frame('experiment', 'a frame of an experimental EtherType', 0x88b5),
  frame('lldp', 'an LLDP frame', 0x88cc),
  frame('pppoe', 'a PPPoE discovery frame', 0x8863),
  frame('eapol', 'an EAPOL frame', 0x888e),
  frame('vlan', 'a frame with a VLAN tag', 0x8100),
  frame('qinq', 'a frame with a service tag', 0x88a8),
  arp('arp-proxy', "ARP for the proxy's address (control)", { isControl: true }),
  arp('arp', "ARP for an address that is not this machine's"),
  arp('arp-forged', "ARP in another sandbox's name", { isDisguised: true }),
];

/** Name of the table inside. */
export const sandboxTable = 'sallyport_gate_frames';
const firstMark = 0x5a11_f000;

/** What the datagram that becomes such a frame carries. */
export function marked(kind: FrameKind): number {
  return firstMark + frameKinds.indexOf(kind);
}

/** Name of a counter of the table on this machine. */
export function nameOf(where: 'ahead' | 'past', { id }: Pick<FrameKind, 'id'>): string {
  return `${where}_${id.replaceAll('-', '_')}`;
}

/** One step ahead of the fence, at -300, and one behind it: there it is stopped, fence or no fence. */
export function hostTable(place: Place): readonly Words[] {
  const { link } = place.names;
  const words = newTable('netdev', gateNames(place.names).table);
  const rules = frameKinds.flatMap((kind) => {
    const isIt = matchOf(kind, place);
    const end = kind.isControl ? accept : drop;
    return [
      words.rule('ahead', ...isIt, count(nameOf('ahead', kind))),
      words.rule('behind', ...isIt, count(nameOf('past', kind)), end),
    ];
  });
  return [
    words.table,
    ...frameKinds.flatMap((kind) => [
      words.counter(nameOf('ahead', kind)),
      words.counter(nameOf('past', kind)),
    ]),
    words.chain('ahead', 'ingress', -301, { dev: link }),
    words.chain('behind', 'ingress', -299, { dev: link }),
    ...rules,
  ];
}

function matchOf({ id, type }: FrameKind, { slot }: Place): readonly Words[] {
  if (type !== null) return [isEqual(field('ether', 'type'), type)];
  const { next } = neighboursOf(slot);
  const [from, about] = [field('arp', 'saddr ip'), field('arp', 'daddr ip')];
  if (id === 'arp') return [isEqual(from, slot.sandbox), isEqual(about, lentTo(slot).onLink)];
  return [isEqual(from, id === 'arp-forged' ? next.sandbox : slot.sandbox), isEqual(about, slot.proxy)];
}

const set = (key: Words, value: unknown): Words => ({ mangle: { key, value } });

/** Makes marked datagrams into frames, and the question for one address into a forged one for the proxy's. */
export function egressTable({ names: { peer }, slot }: Place): readonly Words[] {
  const words = newTable('netdev', sandboxTable);
  // After 20 bytes of IPv4 and 8 of UDP: behind the hook the frame is complete, so nothing asks what it was.
  const payload = { payload: { base: 'nh', offset: 224, len: 32 } };
  const [forged, sender] = [lentTo(slot).forged, neighboursOf(slot).next.sandbox];
  return [
    words.table,
    words.chain('egress', 'egress', 0, { dev: peer }),
    ...frameKinds
      .filter(({ type }) => type !== null)
      .map((kind) =>
        words.rule('egress', isEqual(payload, marked(kind)), set(field('ether', 'type'), kind.type)),
      ),
    words.rule(
      'egress',
      isEqual(field('arp', 'daddr ip'), forged),
      set(field('arp', 'saddr ip'), sender),
      set(field('arp', 'daddr ip'), slot.proxy),
    ),
  ];
}
