// Bulk data through four tunnels, first down, then up.
import { known, run } from './run.ts';
import type { Measure } from './types.ts';

export const bulkSlots = 4;
const mib = 2 ** 20;
const gib = 2 ** 30;

export const bulk: Measure = {
  name: 'bulk',
  title: 'Bulk data',
  about: ({ bulkMs }) =>
    `${bulkSlots} tunnels at once, as fast as they go for ${bulkMs / 1000} s in each direction; both ends count the bytes and compare samples with what was sent.`,
  figures: () => [
    { id: 'downCpu', title: 'CPU down', unit: 's/GiB', digits: 3, better: 'less' },
    { id: 'upCpu', title: 'CPU up', unit: 's/GiB', digits: 3, better: 'less' },
    { id: 'downRate', title: 'down', unit: 'MiB/s', digits: 0, better: 'more' },
    { id: 'upRate', title: 'up', unit: 'MiB/s', digits: 0, better: 'more' },
  ],
  async take(peer, world, { bulkMs }) {
    const down = await run('down', peer, world, { slots: bulkSlots, ms: bulkMs });
    const up = await run('up', peer, world, { slots: bulkSlots, ms: bulkMs });
    return known({
      downCpu: down.cpuSeconds && down.cpuSeconds / (down.client.bytes / gib),
      upCpu: up.cpuSeconds && up.cpuSeconds / (up.client.bytes / gib),
      downRate: down.client.bytes / mib / down.client.seconds,
      upRate: up.client.bytes / mib / up.client.seconds,
      // In the file of --json only: what either end counted.
      downBytes: down.client.bytes,
      downBytesSent: down.upstream.sourced,
      upBytes: up.upstream.sunk,
      upBytesSent: up.client.bytes,
    });
  },
};
