// Tunnels opened and closed as fast as the peer takes them.
import { known, run } from './run.ts';
import type { Measure } from './types.ts';

const slots = 32;

export const tunnels: Measure = {
  name: 'tunnels',
  title: 'Opening tunnels',
  about: ({ tunnelsMs }) =>
    `${slots} clients, each in a closed loop for ${tunnelsMs / 1000} s: connect, CONNECT, both TLS hellos, 64 bytes there and back, close.`,
  figures: () => [
    { id: 'tunnelCpu', title: 'CPU per tunnel', unit: 'µs', digits: 0, better: 'less' },
    { id: 'tunnelRate', title: 'tunnels', unit: '1/s', digits: 0, better: 'more' },
    { id: 'tunnelP50', title: 'p50', unit: 'ms', digits: 1, better: 'less' },
    { id: 'tunnelP99', title: 'p99', unit: 'ms', digits: 1, better: 'less' },
  ],
  async take(peer, world, { tunnelsMs }) {
    const { client, cpuSeconds } = await run('tunnels', peer, world, { slots, ms: tunnelsMs });
    return known({
      tunnelCpu: cpuSeconds && (cpuSeconds * 1e6) / client.done,
      tunnelRate: client.done / client.seconds,
      tunnelP50: client.p50 / 1000,
      tunnelP99: client.p99 / 1000,
    });
  },
};
