// Round trips of a small message through one open tunnel: alone, beside four tunnels of bulk data, and beside four that are held to a rate
// which every peer can carry.
import type { RunningPeer } from '../peers/types.ts';
import type { World } from '../world.ts';
import { bulkSlots } from './bulk.ts';
import { known, run, runBeside } from './run.ts';
import type { Figure, Measure, Readings } from './types.ts';

const pacedBytesPerSecond = 100 * 2 ** 20;

export const trips: Measure = {
  name: 'trips',
  title: 'Round trips',
  about: ({ tripsMs }) =>
    `One open tunnel, 64 bytes there and back, again and again for ${tripsMs / 1000} s.`,
  figures: () => [
    { id: 'tripCpu', title: 'CPU', unit: 'µs', digits: 1, better: 'less' },
    ...percentiles('trip', 1),
  ],
  async take(peer, world, { tripsMs }) {
    const { client, cpuSeconds } = await run('trips', peer, world, { slots: 1, ms: tripsMs });
    return known({
      tripCpu: cpuSeconds && (cpuSeconds * 1e6) / client.done,
      tripP50: client.p50,
      tripP99: client.p99,
      tripP999: client.p999,
    });
  },
};

export const loadedTrips: Measure = {
  name: 'loaded-trips',
  title: 'Round trips beside bulk data',
  about: () =>
    `The same while ${bulkSlots} other tunnels carry bulk data down as fast as they go: client, upstream and proxy then share all cores.`,
  figures: () => percentiles('loadedTrip', 0),
  take: async (peer, world, { tripsMs }) => await besideBulk('loadedTrip', peer, world, tripsMs),
};

export const pacedTrips: Measure = {
  name: 'paced-trips',
  title: 'Round trips beside paced bulk data',
  about: () => `The same while ${bulkSlots} other tunnels are sent 100 MiB/s each.`,
  figures: () => percentiles('pacedTrip', 0),
  take: async (peer, world, { tripsMs }) =>
    await besideBulk('pacedTrip', peer, world, tripsMs, pacedBytesPerSecond),
};

async function besideBulk(
  id: string,
  peer: RunningPeer,
  world: World,
  ms: number,
  pace?: number,
): Promise<Readings> {
  const client = await runBeside('down', 'trips', peer, world, {
    besides: { slots: bulkSlots, ms },
    amount: { slots: 1, ms },
    ...(pace !== undefined && { pace }),
  });
  return { [`${id}P50`]: client.p50, [`${id}P99`]: client.p99, [`${id}P999`]: client.p999 };
}

function percentiles(id: string, digits: number): readonly Figure[] {
  return (['P50', 'P99', 'P999'] as const).map((which) => ({
    id: `${id}${which}`,
    title: which === 'P999' ? 'p99.9' : which.toLowerCase(),
    unit: 'µs',
    digits,
    better: 'less',
  }));
}
