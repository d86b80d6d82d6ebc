// HAProxy in TCP mode: reads the server name of the hello, looks it up in a list, and splices. The client sends no CONNECT.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startServer } from '../processes.ts';
import { debianProgram } from './debian.ts';
import type { Peer } from './types.ts';

const program = debianProgram('haproxy');
// Besides two for each tunnel; the pipes are for tunnels that bytes are in.
const pipes = 64;
const spare = 100;

export const haproxy: Peer = {
  name: 'haproxy',
  title: 'HAProxy, SNI mode',
  absent: program.absent,
  version: program.version,
  async start({ allowed, host, upstream, descriptors }, { port, folder }) {
    const config = join(folder, 'haproxy.cfg');
    const list = join(folder, 'allowed');
    const connections = Math.floor((descriptors - 2 * pipes - spare) / 2);
    writeFileSync(list, `${allowed.join('\n')}\n`);
    writeFileSync(
      config,
      `global
  maxconn ${connections}
  maxpipes ${pipes}
  ulimit-n ${descriptors}
defaults
  mode tcp
  option splice-auto
  timeout connect 10s
  timeout client 10m
  timeout server 10m
frontend in
  bind 127.0.0.1:${port} backlog 4096
  maxconn ${connections}
  tcp-request inspect-delay 5s
  tcp-request content accept if { req.ssl_sni -i -f ${list} }
  tcp-request content reject if { req.ssl_hello_type 1 }
  default_backend out
backend out
  server upstream ${upstream}
`,
    );
    const { pid, stop } = await startServer(program.path, ['-db', '-f', config], {
      log: join(folder, 'log'),
      port,
    });
    return { way: { to: `127.0.0.1:${port}`, host, connects: false }, pid, stop };
  },
};
