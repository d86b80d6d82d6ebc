// A loopback address that never answers a SYN, without any firewall: a stopped process whose accept queue is full.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const script = `
  const [host, port] = process.argv.slice(1);
  const server = require('node:net').createServer();
  server.listen({ host, port: Number(port), backlog: 1 }, () => process.stdout.write(String(server.address().port)));
`;

export interface Silent extends AsyncDisposable {
  readonly port: number;
}

/** Listens at `host` and never accepts; connecting to it hangs until it is disposed. */
export async function listenSilently(host: string, port = 0): Promise<Silent> {
  const child = spawn(process.execPath, ['-e', script, host, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGSTOP');
  const bound = Number(said);
  // A backlog of one holds two; from then on Linux drops every SYN.
  const fillers = [await connected(host, bound), await connected(host, bound)];
  return {
    port: bound,
    async [Symbol.asyncDispose]() {
      for (const filler of fillers) filler.destroy();
      child.kill('SIGKILL');
      await once(child, 'close');
    },
  };
}

async function connected(host: string, port: number): Promise<Socket> {
  const socket = connect({ host, port });
  await once(socket, 'connect');
  return socket.on('error', () => {});
}
