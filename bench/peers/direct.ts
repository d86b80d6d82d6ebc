// No proxy: the client goes to the upstream itself. What is left is the cost of the load generator and the machine.
import type { Peer } from './types.ts';

export const direct: Peer = {
  name: 'direct',
  title: 'direct',
  absent: () => undefined,
  version: () => 'none',
  async start({ upstream, host }) {
    return { way: { to: upstream, host, connects: false }, pid: undefined, async stop() {} };
  },
};
