// The outside of the demo: one TLS server that plays every allowed host, git included, and sinks that report whatever else arrives. Prints one JSON line per sighting.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createSecureContext, TLSSocket } from 'node:tls';

const dir = process.argv[2] ?? '.';
const certificate = createSecureContext({
  cert: readFileSync(join(dir, 'origin.pem')),
  key: readFileSync(join(dir, 'origin.key')),
});
const http = createHttpServer(answer);

function report(sighting: Record<string, string | undefined>): void {
  process.stdout.write(`${JSON.stringify(sighting)}\n`);
}

const tls = createTcpServer((socket) => {
  socket.on('error', () => socket.destroy());
  report({ what: 'connection', to: `${socket.localAddress}:${socket.localPort}` });
  const secure = new TLSSocket(socket, { isServer: true, secureContext: certificate });
  secure.on('error', () => socket.destroy());
  http.emit('connection', secure);
});

function answer(request: IncomingMessage, response: ServerResponse): void {
  const name = (request.headers.host ?? '').split(':')[0] ?? '';
  const path = request.url ?? '/';
  report({ what: 'request', to: `${request.socket.localAddress}:443`, name, path });
  if (name === 'github.com') git(request, response);
  else
    response
      .setHeader('content-type', 'application/json')
      .end(`{"origin":"the demo's own","host":"${name}"}\n`);
}

/** `git http-backend` as CGI (RFC 3875): its head ends at the first empty line. */
function git(request: IncomingMessage, response: ServerResponse): void {
  const [path = '/', query = ''] = (request.url ?? '/').split('?');
  const child = spawn('git', ['-c', 'safe.directory=*', 'http-backend'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      PATH: '/usr/bin:/bin',
      GIT_PROJECT_ROOT: join(dir, 'git'),
      GIT_HTTP_EXPORT_ALL: '1',
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: 'safe.directory',
      GIT_CONFIG_VALUE_0: '*',
      PATH_INFO: path,
      QUERY_STRING: query,
      REQUEST_METHOD: request.method ?? 'GET',
      CONTENT_TYPE: request.headers['content-type'] ?? '',
      HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
      GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
      REMOTE_USER: 'agent',
    },
  });
  child.stdin.on('error', () => child.kill());
  request.pipe(child.stdin);
  let held = Buffer.alloc(0);
  child.stdout.on('data', function head(chunk: Buffer) {
    held = Buffer.concat([held, chunk]);
    const end = held.indexOf('\r\n\r\n');
    if (end < 0) return;
    child.stdout.off('data', head);
    for (const line of held.toString('latin1', 0, end).split('\r\n')) setHeader(response, line);
    response.write(held.subarray(end + 4));
    child.stdout.pipe(response);
  });
}

function setHeader(response: ServerResponse, line: string): void {
  const colon = line.indexOf(':');
  const [name, value] = [line.slice(0, colon), line.slice(colon + 1).trim()];
  if (name === 'Status') response.statusCode = Number(value.slice(0, 3));
  else response.setHeader(name, value);
}

function sink(socket: Socket): void {
  socket.on('error', () => socket.destroy());
  report({ what: 'connection', to: `${socket.localAddress}:${socket.localPort}` });
  socket.end();
}

const datagrams = createSocket('udp4', (_message, from) =>
  report({ what: 'datagram', to: `udp from ${from.address}` }),
);
const servers = [
  tls.listen(443, '0.0.0.0'),
  createTcpServer(sink).listen(80, '0.0.0.0'),
  createTcpServer(sink).listen(53, '0.0.0.0'),
];
await Promise.all(
  [...servers, datagrams.bind(53)].map(
    (server) => new Promise((resolve) => server.once('listening', resolve)),
  ),
);
// The demo holds the other end: when it goes, so does the origin.
process.stdin.once('end', () => process.exit());
// Asked with a line, it answers when whatever had reached it by then has been reported.
process.stdin.on('data', () => setImmediate(() => process.stdout.write('settled\n')));
process.stdout.write('ready\n');
