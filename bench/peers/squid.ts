// Squid as a forward proxy: CONNECT to hosts of a list, no cache, no log.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startServer } from '../processes.ts';
import { debianProgram } from './debian.ts';
import type { Peer } from './types.ts';

const program = debianProgram('squid');

export const squid: Peer = {
  name: 'squid',
  title: 'Squid',
  absent: program.absent,
  version: program.version,
  async start({ allowed, host, hosts, descriptors }, { port, folder }) {
    const config = join(folder, 'squid.conf');
    const list = join(folder, 'allowed');
    const log = join(folder, 'log');
    writeFileSync(list, `${allowed.join('\n')}\n`);
    writeFileSync(
      config,
      `http_port 127.0.0.1:${port}
acl allowed dstdomain "${list}"
acl tls port 443
acl CONNECT method CONNECT
http_access allow CONNECT tls allowed
http_access deny all
hosts_file ${hosts}
dns_nameservers 127.0.0.1
access_log none
cache_log ${log}
cache deny all
cache_mem 0 MB
pid_filename none
netdb_filename none
pinger_enable off
visible_hostname bench.test
coredump_dir ${folder}
shutdown_lifetime 0 seconds
max_filedescriptors ${descriptors}
`,
    );
    const { pid, stop } = await startServer(program.path, ['-N', '-f', config], { log, port });
    return { way: { to: `127.0.0.1:${port}`, host, connects: true }, pid, stop };
  },
};
