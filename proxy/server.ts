// Opens the ports and hands every accepted socket to serve(). Reads no byte.
import { createServer, type AddressInfo, type Server } from 'node:net';
import { isWildcard } from './config-network.ts';
import type { ProxySettings } from './config.ts';
import { type Endpoint, parseEndpoint } from './endpoint.ts';
import { doorOf, type Place } from './listeners/index.ts';
import { bindPrincipals, type PrincipalOf } from './principal.ts';
import { serve } from './serve.ts';
import { hearErrors } from './sockets.ts';
import type { Deps } from './types.ts';

export { type Place, placesOf } from './listeners/index.ts';

/** A port that is open. close() stops accepting; clients that are there stay. */
export interface OpenPort {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  close(): void;
}

/** Bytes of a client that Node reads ahead before the verdict, beyond the read that is under way (64 KiB at most). */
const earlyBytes = 16_384;

/** Opens every place, or none: when one cannot be opened the others are closed and the error is thrown. */
export async function openPorts(places: readonly Place[], deps: Deps): Promise<readonly OpenPort[]> {
  const principalOf = bindPrincipals(deps.settings.principals);
  const open: OpenPort[] = [];
  try {
    for (const place of places) open.push(await openPort(place, principalOf, deps));
    return open;
  } catch (error) {
    for (const port of open) port.close();
    throw error;
  }
}

async function openPort(place: Place, principalOf: PrincipalOf, deps: Deps): Promise<OpenPort> {
  const { name, at, fd } = place;
  const door = doorOf(place, deps);
  const endpoint = parseEndpoint(at);
  refuseWildcard(endpoint.address, at, deps.settings);
  const server = createServer({ allowHalfOpen: true, noDelay: true, highWaterMark: earlyBytes }, (client) => {
    hearErrors(client);
    void serve(client, door, principalOf, deps);
  });
  const { address, port } = await listen(server, endpoint, fd);
  // An accept that fails (EMFILE) is one client lost; without a listener it would be the whole process.
  server.on('error', (error) => deps.observers.bug(error, 'accept'));
  return { name, address, port, close: () => void server.close() };
}

/** Throws Error with help. */
export function refuseWildcard(
  address: string,
  at: string,
  settings: Pick<ProxySettings, 'allowWildcard'>,
): void {
  if (settings.allowWildcard || !isWildcard(address)) return;
  const help = 'name one address; if every network is meant, add --allow-wildcard-bind';
  throw new Error(`\`${at}\` would listen on every network of this machine\nhelp: ${help}`);
}

/** What to say when a port cannot be had. */
export function listenError({ address, port }: Endpoint, cause: Error): Error {
  const help = 'choose an address of this machine and a port that is free';
  return new Error(`cannot listen on \`${address}\` port ${port}: ${cause.message}\nhelp: ${help}`, {
    cause,
  });
}

/** `fd` listens already when it is given. */
function listen(server: Server, endpoint: Endpoint, fd: number | undefined): Promise<AddressInfo> {
  const { promise, resolve, reject } = Promise.withResolvers<AddressInfo>();
  const onError = (cause: Error): void => reject(listenError(endpoint, cause));
  server.once('error', onError);
  server.listen(fd === undefined ? { host: endpoint.address, port: endpoint.port } : { fd }, () => {
    server.off('error', onError);
    const bound = server.address();
    if (typeof bound === 'object' && bound !== null) resolve(bound);
    else reject(new Error('bug: a listening server has no address'));
  });
  return promise;
}
