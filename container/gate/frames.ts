// Layer 2: frames that are no IP at all, and a question by ARP for an address that is not this machine's. The fence does not see them; nothing
// here may take them up either. Needs the egress hook (Linux 5.16); without it frames are not tried, and that is said.
import { tool, ToolError } from '../exec.ts';
import { entering } from './disguise.ts';
import {
  count,
  dropTable,
  field,
  isEqual,
  load,
  meta,
  newTable,
  readCounters,
  type Words,
} from './nft-words.ts';
import { gateNames, lentTo, type Place } from './place.ts';
import type { Prober } from './prober.ts';

/** What was seen of one kind of frame. */
export interface FrameSight {
  readonly id: string;
  readonly what: string;
  /** False where the kernel cannot send it so. */
  readonly tried: boolean;
  /** Frames that came in at this machine's end of the link. */
  readonly ahead: number;
  /** Answers that went back to the sandbox. */
  readonly answers: number;
}

export interface Frames {
  readonly sights: readonly FrameSight[];
  /** Links of this machine that lie over the sandbox's, such as a bridge: they would take its frames. */
  readonly above: readonly string[];
}

/** EtherTypes, from the registry of the IEEE. */
const kinds = [
  { id: 'frame-experiment', what: 'a frame of an experimental EtherType', type: 0x88b5 },
  { id: 'frame-lldp', what: 'an LLDP frame', type: 0x88cc },
  { id: 'frame-pppoe', what: 'a PPPoE discovery frame', type: 0x8863 },
  { id: 'frame-eapol', what: 'an EAPOL frame', type: 0x888e },
] as const;

const sandboxTable = 'sallyport_gate_frames';
const firstMark = 0x5a11_f000;

/** Sends one of each. */
export async function tryFrames(prober: Prober, place: Place): Promise<Frames> {
  const { table } = gateNames(place.names);
  const { slot, names } = place;
  const strange = lentTo(slot).onLink;
  await load(`${place.directory}/gate-frames`, hostTable(place, strange));
  const canSend = await load(`${place.directory}/gate-egress`, egressTable(names.peer), entering(place)).then(
    () => true,
    (error: unknown) => {
      if (error instanceof ToolError) return false;
      throw error;
    },
  );
  try {
    const route = ['-n', names.netns, 'route'];
    // What an earlier gate learned of it would keep the question from being asked.
    await tool('ip', ['-n', names.netns, 'neigh', 'flush', strange, 'dev', names.peer]);
    await tool('ip', [...route, 'replace', `${strange}/32`, 'dev', names.peer]);
    if (canSend) await Promise.all(kinds.map(async (_, i) => await send(prober, slot.proxy, firstMark + i)));
    await send(prober, strange, 0);
    await tool('ip', [...route, 'del', `${strange}/32`, 'dev', names.peer]);
    const seen = await readCounters('netdev', table);
    const sights = kinds.map(({ id, what, type }): FrameSight => {
      return { id, what, tried: canSend, ahead: seen.get(`frame_${type}`) ?? 0, answers: 0 };
    });
    const arp: FrameSight = {
      id: 'arp',
      what: "ARP for an address that is not this machine's",
      tried: true,
      ahead: seen.get('arp') ?? 0,
      answers: await answered(place, strange),
    };
    return { sights: [...sights, arp], above: await linksAbove(names.link) };
  } finally {
    await dropTable('netdev', table);
    if (canSend) await dropTable('netdev', sandboxTable, entering(place));
  }
}

function hostTable({ names }: Place, strange: string): readonly Words[] {
  const words = newTable('netdev', gateNames(names).table);
  return [
    words.table,
    ...kinds.map(({ type }) => words.counter(`frame_${type}`)),
    words.counter('arp'),
    words.chain('ingress', 'ingress', -500, { dev: names.link }),
    ...kinds.map(({ type }) =>
      words.rule('ingress', isEqual(meta('protocol'), type), count(`frame_${type}`)),
    ),
    words.rule(
      'ingress',
      isEqual(meta('protocol'), 'arp'),
      isEqual(field('arp', 'daddr ip'), strange),
      count('arp'),
    ),
  ];
}

function egressTable(peer: string): readonly Words[] {
  const words = newTable('netdev', sandboxTable);
  // After 20 bytes of IPv4 and 8 of UDP: behind the hook the frame is complete, so nothing asks what it was.
  const payload = { payload: { base: 'nh', offset: 224, len: 32 } };
  return [
    words.table,
    words.chain('egress', 'egress', 0, { dev: peer }),
    ...kinds.map(({ type }, i) =>
      words.rule('egress', isEqual(payload, firstMark + i), {
        mangle: { key: field('ether', 'type'), value: type },
      }),
    ),
  ];
}

async function send(prober: Prober, address: string, mark: number): Promise<void> {
  const payload = Buffer.alloc(12);
  payload.writeUInt32BE(mark, 0);
  const order = {
    id: `frame ${mark}`,
    kind: 'udp4',
    address,
    port: 9,
    payload: payload.toString('hex'),
  } as const;
  await new Promise<void>((resolve) => {
    prober.order(order, () => resolve());
  });
}

/** 1 when the sandbox has learned where that address is: somebody answered for it. */
async function answered({ names }: Place, address: string): Promise<number> {
  const known = await tool('ip', ['-n', names.netns, 'neigh', 'show', address, 'dev', names.peer]);
  return / lladdr /.test(known) ? 1 : 0;
}

/** Not from /sys, which shows the namespace in which it was mounted. */
async function linksAbove(link: string): Promise<readonly string[]> {
  const lines = (await tool('ip', ['-o', 'link', 'show'])).split('\n');
  const own = lines.find((line) => line.includes(` ${link}@`)) ?? '';
  const over = lines.filter((line) => line.includes(`@${link}: `)).map((line) => line.split(' ')[1] ?? '');
  const master = / master (\S+) /.exec(own)?.[1];
  return master === undefined ? over : [master, ...over];
}
