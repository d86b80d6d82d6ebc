// The gate's own eyes in the kernel: a table that counts each probe one step ahead of the fence and one step behind it, and drops whatever
// comes out behind. So a probe that was never sent proves nothing, one that got through is seen, and none leaves the link.
import { counterOf, packetClasses, type DropClass } from '../../nft/index.ts';
import type { Drops } from '../fence-part.ts';
import type { RunNames } from '../names.ts';
import { tool } from '../exec.ts';
import type { Resource } from '../resource.ts';
import {
  accept,
  changes,
  count,
  drop,
  dropTable,
  field,
  hasMark,
  isEqual,
  load,
  meta,
  newTable,
  readCounters,
  type Words,
} from './nft-words.ts';
import { protocols } from './packet.ts';
import { gateNames, type Place } from './place.ts';
import type { Hook, Probe } from './probes.ts';

/** A probe with the mark its packets carry, which no other packet is likely to have. */
export interface Marked {
  readonly probe: Probe;
  readonly mark: number;
}

/** Packets seen of one probe. */
export interface Sight {
  readonly ahead: number;
  readonly past: number;
}

/** What the kernel has counted so far. */
export interface Look {
  /** By the id of the probe. */
  readonly sights: ReadonlyMap<string, Sight>;
  /** Packets that passed the fence without being a probe or the proxy's business. */
  readonly strays: number;
  /** Packets that the fence has dropped, by class. */
  readonly drops: Drops;
}

/** The counters ahead of the fence, behind it, and its own. */
export interface Observer extends Resource {
  /** Rejects when the fence or a counter of it is gone. */
  look(): Promise<Look>;
}

/** The fence is at -300 in every hook. */
const ahead = -301;
const behind = -299;
const hooks: readonly Hook[] = ['prerouting', 'input', 'forward', 'postrouting'];

/** Puts the table in place. From then on nothing but the proxy's business crosses the link, fence or no fence. */
export async function openObserver(place: Place, marked: readonly Marked[]): Promise<Observer> {
  const { table } = gateNames(place.names);
  await load(`${place.directory}/gate-observer`, observerTable(place, marked));
  return {
    name: `table ${table}`,
    look: async () => read(await readCounters('inet', place.names.table, table), marked),
    release: async () => await dropTable('inet', table),
  };
}

function read(counters: ReadonlyMap<string, number>, marked: readonly Marked[]): Look {
  const of = (name: string): number => {
    const packets = counters.get(name);
    if (packets === undefined) throw new Error(`counter \`${name}\` is gone`);
    return packets;
  };
  const sights = marked.map(({ probe }, i): [string, Sight] => [
    probe.id,
    { ahead: of(`ahead_${i}`), past: of(`past_${i}`) },
  ]);
  const drops = packetClasses.map((name): [DropClass, number] => [name, of(counterOf(name))]);
  return { sights: new Map(sights), strays: of('strays'), drops: new Map(drops) };
}

/** Takes away what a gate that was killed has left in the host's namespace. No error when there is nothing. */
export async function clearGate(names: RunNames): Promise<void> {
  const { table, questions, near } = gateNames(names);
  await dropTable('inet', table);
  await dropTable('inet', questions);
  await dropTable('netdev', table).catch(() => undefined);
  await tool('ip', ['link', 'del', near]).catch(() => undefined);
}

function observerTable(place: Place, marked: readonly Marked[]): readonly Words[] {
  const words = newTable('inet', gateNames(place.names).table);
  const { link } = place.names;
  return [
    words.table,
    ...marked.flatMap((_, i) => [words.counter(`ahead_${i}`), words.counter(`past_${i}`)]),
    words.counter('strays'),
    ...hooks.flatMap((hook) => [
      words.chain(`ahead_${hook}`, hook, ahead),
      words.chain(`behind_${hook}`, hook, behind),
    ]),
    words.chain('dress', 'postrouting', ahead - 1),
    words.chain('plain', 'output', ahead),
    ...marked.flatMap((one, i) =>
      rulesFor(one, i, link).map(([chain, ...expr]) => words.rule(chain, ...expr)),
    ),
    ...guard(place).map(([chain, ...expr]) => words.rule(chain, ...expr)),
  ];
}

type ChainRule = readonly [chain: string, ...expr: readonly Words[]];

function rulesFor({ probe, mark }: Marked, i: number, link: string): readonly ChainRule[] {
  const { family, from, hook, packet } = probe;
  const isIt = probe.isReal === true ? ownConnection(probe, link) : [hasMark(mark)];
  const step: readonly ChainRule[] = [
    [`ahead_${hook}`, ...isIt, count(`ahead_${i}`)],
    [`behind_${hook}`, ...isIt, count(`past_${i}`), drop],
  ];
  const change: readonly ChainRule[] =
    probe.behind === undefined
      ? []
      : [['behind_prerouting', ...isIt, ...changes(family, probe.behind), accept]];
  // A packet of this process is dressed on its way out; no table of others is to know it as a flow.
  const { to: _to, ports: _ports, ...dress } = packet;
  const dressed: readonly ChainRule[] =
    from === 'sandbox'
      ? []
      : [
          ['dress', ...isIt, ...changes(family, dress)],
          ['plain', ...isIt, { notrack: null }],
        ];
  return [...step, ...change, ...dressed];
}

function ownConnection({ packet }: Probe, link: string): readonly Words[] {
  return [
    isEqual(meta('iifname'), link),
    isEqual(field('ip', 'daddr'), packet.to),
    isEqual(field('tcp', 'dport'), packet.ports[0]),
  ];
}

/** Whatever is not the proxy's business and was not dropped by the fence: counted, and dropped here. */
function guard({ names: { link }, slot, ports, datagrams, services }: Place): readonly ChainRule[] {
  const stray = [count('strays'), drop];
  const [arrives, leaves] = [isEqual(meta('iifname'), link), isEqual(meta('oifname'), link)];
  const business: readonly (readonly ['tcp' | 'udp', address: string, readonly number[]])[] = [
    ['tcp', slot.proxy, ports],
    ['udp', slot.proxy, datagrams],
    ...services.map((one) => ['tcp', one.address, one.ports] as const),
  ];
  const own = (chain: string, side: Words, port: 'sport' | 'dport'): readonly ChainRule[] => {
    const [here, there] = port === 'dport' ? (['saddr', 'daddr'] as const) : (['daddr', 'saddr'] as const);
    return business
      .filter(([, , set]) => set.length > 0)
      .map(([protocol, address, set]) => {
        const ends = [
          end(here, slot.sandbox),
          end(there, address),
          isEqual(meta('l4proto'), protocols[protocol]),
        ];
        return [chain, side, ...ends, isEqual(field(protocol, port), { set: [...set] }), accept];
      });
  };
  return [
    ...own('behind_prerouting', arrives, 'dport'),
    ['behind_prerouting', arrives, ...stray],
    ...own('behind_input', arrives, 'dport'),
    ['behind_input', arrives, ...stray],
    ['behind_forward', arrives, ...stray],
    ['behind_forward', leaves, ...stray],
    ...own('behind_postrouting', leaves, 'sport'),
    ['behind_postrouting', leaves, ...stray],
  ];
}

function end(name: 'saddr' | 'daddr', address: string): Words {
  return isEqual(field('ip', name), address);
}
