// tinyproxy: CONNECT to hosts of a filter file, which it tries in order; a thread for each tunnel.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startServer } from '../processes.ts';
import { debianProgram } from './debian.ts';
import type { Peer } from './types.ts';

const program = debianProgram('tinyproxy');

export const tinyproxy: Peer = {
  name: 'tinyproxy',
  title: 'tinyproxy',
  absent: program.absent,
  version: program.version,
  async start({ allowed, host }, { port, folder }) {
    const config = join(folder, 'tinyproxy.conf');
    const filter = join(folder, 'allowed');
    writeFileSync(
      filter,
      `${allowed.map((name) => `^${name.replaceAll('.', String.raw`\.`)}$`).join('\n')}\n`,
    );
    writeFileSync(
      config,
      `Port ${port}
Listen 127.0.0.1
Timeout 600
MaxClients 10000
Filter "${filter}"
FilterDefaultDeny Yes
FilterExtended On
ConnectPort 443
LogLevel Critical
LogFile "/dev/null"
DisableViaHeader Yes
`,
    );
    const { pid, stop } = await startServer(program.path, ['-d', '-c', config], {
      log: join(folder, 'log'),
      port,
    });
    return { way: { to: `127.0.0.1:${port}`, host, connects: true }, pid, stop };
  },
};
