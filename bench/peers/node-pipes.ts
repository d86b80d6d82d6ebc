// A plain Node proxy: CONNECT, an allowlist, and two sockets piped into each other. What Sallyport would be without its own data plane.
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { startServer } from '../processes.ts';
import type { Peer } from './types.ts';

const server = join(import.meta.dirname, 'node-pipes.child.ts');

export const nodePipes: Peer = {
  name: 'node-pipes',
  title: 'Node, sockets piped',
  absent: () => undefined,
  version: () => process.versions.node,
  async start({ allowed, host, address }, { port, folder }) {
    const list = join(folder, 'allowed.json');
    writeFileSync(list, JSON.stringify(Object.fromEntries(allowed.map((name) => [name, address]))));
    const { pid, stop } = await startServer(process.execPath, [server, String(port), list], {
      log: join(folder, 'log'),
      port,
    });
    return { way: { to: `127.0.0.1:${port}`, host, connects: true }, pid, stop };
  },
};
