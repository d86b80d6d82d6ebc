// The ground on which a boundary is attacked: the world of the runner's tests with IPv6, a neighbour, and receivers wherever something could get.
import { createNft, readDrops, type DropClass } from '../../../nft/index.ts';
import { makeLink, makeNetns } from '../../helpers/netns.ts';
import { makeWorld, type World } from '../world.ts';
import { makeClock, type MovableClock } from './clock.ts';
import { nothing, receive, type Counts, type Receiver } from './receivers.ts';
import { until } from './until.ts';

interface Tearable {
  teardown(handler: () => void | Promise<void>): void;
}

/** Where something may sit that would notice: every address outside, a neighbour, the host itself. */
export type Place = 'outside' | 'near' | 'host';

type Arrived = Readonly<Record<Place, Counts>>;

export interface Grounds {
  readonly world: World;
  readonly clock: MovableClock;
  readonly receivers: Readonly<Record<Place, Receiver>>;
  /** What arrived since the last reset. */
  readonly arrived: () => Promise<Arrived>;
  /** The same, once `table` has dropped more of everything that an attacker sends. */
  readonly arrivedMeanwhile: (table: string) => Promise<Arrived>;
}

export const nowhere: Arrived = { outside: nothing, near: nothing, host: nothing };

/** Addresses that the attacker aims at besides the outside's. */
export const aims = { near: '10.97.0.2', host: '10.98.0.1' } as const;

const classes: readonly DropClass[] = ['direct', 'udp', 'dns', 'icmp', 'host', 'ipv6'];

/** The host's end of a sandbox's link, and what may arrive from there: matches of its proxy's ports. */
interface Link {
  readonly name: string;
  readonly ports: readonly string[];
}

export async function makeGrounds(t: Tearable, links: (world: World) => readonly Link[]): Promise<Grounds> {
  const world = await makeWorld(t);
  const { host, outside, dir } = world;
  const near = await makeNetns(t, 'near');
  await makeLink(
    { ns: host, dev: 'near0', addresses: ['10.97.0.1/30', '2001:db8:97::1/64'] },
    { ns: near, dev: 'near0', addresses: [`${aims.near}/30`, '2001:db8:97::2/64'] },
  );
  await host.must(['ip', 'addr', 'add', '2001:db8:98::1/64', 'dev', 'up0', 'nodad']);
  await outside.must(['ip', 'addr', 'add', '2001:db8:98::2/64', 'dev', 'up0', 'nodad']);
  await host.must(['sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1']);
  const all = links(world);
  const receivers = {
    outside: await receive(outside, 'prerouting', ['iifname != "up0"', `ip saddr ${aims.host}`]),
    near: await receive(near, 'prerouting', ['iifname != "near0"']),
    host: await receive(host, 'input', [
      `iifname != { ${all.map(({ name }) => `"${name}"`).join(', ')} }`,
      ...all.flatMap(({ name, ports }) =>
        ports.map((one) => `iifname "${name}" ip saddr 10.219.0.0/16 ip daddr 10.219.0.0/16 ${one}`),
      ),
    ]),
  };
  const nft = createNft({ enter: host.enter });
  const arrived = async (): Promise<Arrived> => ({
    outside: await receivers.outside.counts(),
    near: await receivers.near.counts(),
    host: await receivers.host.counts(),
  });
  return {
    world,
    clock: await makeClock(dir),
    receivers,
    arrived,
    async arrivedMeanwhile(table) {
      const before = await readDrops(nft, table);
      await until(async () => {
        const now = await readDrops(nft, table);
        return classes.every((one) => (now.get(one) ?? 0) > (before.get(one) ?? 0) + 10);
      });
      return await arrived();
    },
  };
}
