// The process of the peer `node-pipes`: `node node-pipes.child.ts PORT ALLOWED.json`. No guard, no record, no limit: only what a pipe needs.
import { readFileSync } from 'node:fs';
import { createServer, connect, type Socket } from 'node:net';

const [port = '0', list = ''] = process.argv.slice(2);
const allowed = new Map(Object.entries(JSON.parse(readFileSync(list, 'utf8')) as Record<string, string>));

function open(client: Socket, head: Buffer): void {
  const [, host = '', to = ''] = /^CONNECT ([^:\s]+):(\d+) HTTP/u.exec(head.toString('latin1')) ?? [];
  const address = allowed.get(host);
  if (address === undefined) {
    client.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    return;
  }
  const upstream = connect({ host: address, port: Number(to), noDelay: true }, () => {
    client.write('HTTP/1.1 200 OK\r\n\r\n');
    client.pipe(upstream).pipe(client);
  });
  upstream.on('error', () => client.destroy());
  client.on('error', () => upstream.destroy());
}

createServer({ noDelay: true }, (client) => {
  client.on('error', () => {});
  client.once('data', (head: Buffer) => open(client, head));
}).listen(Number(port), '127.0.0.1', 4096);
