// The operator's sockets: HTTP on a unix socket for everything, on an own TCP socket for metrics and health. Never on a proxy port.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type AdminAnswer, type AdminParts, adminRoutes, type Route } from './admin-routes.ts';
import { listenOnPath } from './admin-socket.ts';
import type { Enforcement } from './config-types.ts';
import { splitEndpoint } from './config-network.ts';

export type { AdminParts } from './admin-routes.ts';

export interface AdminOptions {
  /** Path of the unix socket, made with mode 0600; null is none. */
  readonly admin: string | null;
  /** `address:port` of the metrics socket; null is none. */
  readonly metrics: string | null;
  readonly enforcement: Enforcement;
  /** An answer failed: a bug, for the operational log. */
  readonly onBug: (error: unknown) => void;
}

export interface RunningAdmin {
  readonly admin: string | null;
  readonly metrics: { readonly address: string; readonly port: number } | null;
  close(): Promise<void>;
}

const maxBodyBytes = 65_536;
const limits = { maxHeaderSize: 8192, headersTimeout: 5000, requestTimeout: 5000, keepAliveTimeout: 5000 };
const maxConnections = 64;

/** Opens the sockets that were asked for. Rejects when one cannot be opened; then none is left open. */
export async function startAdmin(parts: AdminParts, options: AdminOptions): Promise<RunningAdmin> {
  const routes = adminRoutes(parts, options.enforcement);
  const servers: Server[] = [];
  const open = (served: readonly Route[]): Server => {
    const server = createAdminServer(served, options.onBug);
    servers.push(server);
    return server;
  };
  const close = async (): Promise<void> => void (await Promise.all(servers.map(closeServer)));
  try {
    if (options.admin !== null) await listenOnPath(open(routes), options.admin);
    const metrics =
      options.metrics && (await listenOnTcp(open(routes.filter((row) => row.isPublic)), options.metrics));
    return { admin: options.admin, metrics: metrics || null, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function createAdminServer(routes: readonly Route[], onBug: (error: unknown) => void): Server {
  const server = createServer(limits, (request, response) => {
    answer(routes, request)
      .catch((error: unknown) => {
        onBug(error);
        return { status: 500, body: { error: 'internal' } };
      })
      .then((made) => send(response, made))
      .catch(onBug);
  });
  server.maxConnections = maxConnections;
  // An accept that fails (EMFILE) is one question lost; without a listener it would be the whole process.
  server.on('error', onBug);
  return server.on('clientError', (_error, socket) => {
    socket.destroy();
  });
}

async function answer(routes: readonly Route[], request: IncomingMessage): Promise<AdminAnswer> {
  if (!isOwnHost(request.headers.host)) {
    return {
      status: 403,
      body: { error: 'foreign host', help: 'ask for an address or a name without dots' },
    };
  }
  const path = request.url?.split('?')[0];
  const found = routes.filter((route) => route.path === path);
  const route = found.find(({ method }) => method === request.method);
  if (route !== undefined) return await answerRoute(route, request);
  if (found.length > 0) return { status: 405, body: { error: 'method', help: `use ${found[0]?.method}` } };
  return {
    status: 404,
    body: { error: 'not found', help: routes.map(({ path: known }) => known).join(' ') },
  };
}

async function answerRoute(route: Route, request: IncomingMessage): Promise<AdminAnswer> {
  const body = await readBody(request);
  if (body === undefined)
    return { status: 413, body: { error: 'too large', help: `at most ${maxBodyBytes} bytes` } };
  return await route.answer(body);
}

/**
 * A page of the open web may point its own name at this address and let a browser ask (DNS rebinding).
 * Such a name has a dot; addresses, localhost and single labels are ours.
 */
function isOwnHost(host: string | undefined): boolean {
  const name = (host ?? '').replace(/:[0-9]+$/u, '');
  return /^(?:[0-9.]+|\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9-]+)$/u.test(name);
}

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > maxBodyBytes) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

function send(response: ServerResponse, { status, body, contentType }: AdminAnswer): void {
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  // What was not read of an oversized body must not be taken for the next request.
  const connection = status >= 400 ? { connection: 'close' } : {};
  response.writeHead(status, {
    'content-type': contentType ?? 'application/json',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...connection,
  });
  response.end(text);
}

async function listenOnTcp(server: Server, endpoint: string): Promise<{ address: string; port: number }> {
  const { host, port } = splitEndpoint(endpoint);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', (cause) => {
    const help = 'give --metrics an address of this machine and a port that is free';
    reject(
      new Error(`metrics cannot be served on \`${endpoint}\`: ${cause.message}\nhelp: ${help}`, { cause }),
    );
  });
  server.listen({ host, port, exclusive: true }, resolve);
  await promise;
  const bound = server.address();
  if (!isAddressInfo(bound)) throw new Error('a TCP server has an address');
  return { address: bound.address, port: bound.port };
}

function isAddressInfo(bound: AddressInfo | string | null): bound is AddressInfo {
  return typeof bound === 'object' && bound !== null;
}

async function closeServer(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  await promise;
}
