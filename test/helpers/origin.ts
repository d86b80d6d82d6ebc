// Origins on loopback for proxy tests: a sink that counts what reaches it, and a real TLS server with a certificate of its own.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { Test } from 'tap';

export interface Origin {
  readonly port: number;
  /** Every connection there was, in order. */
  readonly sockets: readonly Socket[];
  /** All bytes that reached it, over all connections. */
  received(): Buffer;
  /** The connection with this number, from 0, as soon as it is there. */
  connection(index: number): Promise<Socket>;
}

/** Accepts, keeps what it gets, and says nothing of itself; `onClient` may. */
export async function startOrigin(
  t: Test,
  onClient: (socket: Socket) => void = () => {},
  { address = '127.0.0.1', port = 0 } = {},
): Promise<Origin> {
  const sockets: Socket[] = [];
  const chunks: Buffer[] = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    sockets.push(socket);
    onClient(socket);
    server.emit('counted');
  });
  server.listen(port, address);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    received: () => Buffer.concat(chunks),
    async connection(index) {
      while (sockets[index] === undefined) await once(server, 'counted');
      return sockets[index];
    },
  };
}

/** An origin that echoes, both ways half-closed properly. */
export async function startEcho(t: Test): Promise<Origin> {
  return await startOrigin(t, (socket) => {
    socket.on('data', (chunk: Buffer) => void socket.write(chunk));
    socket.once('end', () => void socket.end());
  });
}

export interface TlsOrigin {
  readonly port: number;
  /** PEM; a client that trusts it as its authority trusts the origin. */
  readonly certificate: string;
  /** Server names of the handshakes that were completed. */
  readonly names: string[];
}

/** A TLS server for `names` that answers each line with `hello NAME\n` and ends. */
export async function startTlsOrigin(t: Test, names: readonly string[]): Promise<TlsOrigin> {
  const { key, certificate } = makeCertificate(names);
  const seen: string[] = [];
  const server = createTlsServer({ key, cert: certificate }, (socket) => {
    socket.on('error', () => {});
    const name = String(Reflect.get(socket, 'servername'));
    seen.push(name);
    socket.once('data', () => void socket.end(`hello ${name}\n`));
  });
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  return { port: (server.address() as AddressInfo).port, certificate, names: seen };
}

/** A key and a certificate of its own for `names`, by openssl, good for two days. */
export function makeCertificate(names: readonly string[]): { key: string; certificate: string } {
  const alternatives = names.map((name) => `DNS:${name}`).join(',');
  const request =
    'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test -keyout - -out -';
  const args = [...request.split(' '), '-addext', `subjectAltName=${alternatives}`];
  const pem = execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const [key = ''] = /-----BEGIN PRIVATE KEY-----[^]*?-----END PRIVATE KEY-----\n/u.exec(pem) ?? [];
  const [certificate = ''] = /-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----\n/u.exec(pem) ?? [];
  return { key, certificate };
}
