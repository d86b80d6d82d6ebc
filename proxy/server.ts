// Opens the ports and hands every accepted socket to serve(). Reads no byte.
import { createServer, type AddressInfo, type Server } from 'node:net';
import { isWildcard } from './config-network.ts';
import { parseEndpoint } from './endpoint.ts';
import { listens, type Listen } from './listeners/index.ts';
import { bindPrincipals, type PrincipalOf } from './principal.ts';
import { serve } from './serve.ts';
import { hearErrors } from './sockets.ts';
import type { Deps } from './types.ts';

/** A port that is open. close() stops accepting; clients that are there stay. */
export interface OpenPort {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  close(): void;
}

/** Bytes of a client that Node reads ahead before the verdict, beyond the read that is under way (64 KiB at most). */
const earlyBytes = 16_384;

/** Opens every port of the settings, or none: when one cannot be opened the others are closed and the error is thrown. */
export async function openPorts(deps: Deps): Promise<readonly OpenPort[]> {
  const principalOf = bindPrincipals(deps.settings.principals);
  const open: OpenPort[] = [];
  try {
    for (const one of listens(deps.settings, deps, () => deps.policyStore.current)) {
      open.push(await openPort(one, principalOf, deps));
    }
    return open;
  } catch (error) {
    for (const port of open) port.close();
    throw error;
  }
}

async function openPort({ name, at, door }: Listen, principalOf: PrincipalOf, deps: Deps): Promise<OpenPort> {
  const endpoint = parseEndpoint(at);
  refuseWildcard(endpoint.address, at, deps);
  const server = createServer({ allowHalfOpen: true, noDelay: true, highWaterMark: earlyBytes }, (client) => {
    hearErrors(client);
    void serve(client, door, principalOf, deps);
  });
  const { address, port } = await listen(server, endpoint.address, endpoint.port);
  // An accept that fails (EMFILE) is one client lost; without a listener it would be the whole process.
  server.on('error', (error) => deps.observers.bug(error, 'accept'));
  return { name, address, port, close: () => void server.close() };
}

function refuseWildcard(address: string, at: string, { settings }: Deps): void {
  if (settings.allowWildcard || !isWildcard(address)) return;
  const help = 'name one address; if every network is meant, add --allow-wildcard-bind';
  throw new Error(`\`${at}\` would listen on every network of this machine\nhelp: ${help}`);
}

function listen(server: Server, host: string, port: number): Promise<AddressInfo> {
  const { promise, resolve, reject } = Promise.withResolvers<AddressInfo>();
  const onError = (cause: Error): void => {
    const help = 'choose an address of this machine and a port that is free';
    reject(
      new Error(`cannot listen on \`${host}\` port ${port}: ${cause.message}\nhelp: ${help}`, { cause }),
    );
  };
  server.once('error', onError);
  server.listen({ host, port }, () => {
    server.off('error', onError);
    const bound = server.address();
    if (typeof bound === 'object' && bound !== null) resolve(bound);
    else reject(new Error('bug: a listening server has no address'));
  });
  return promise;
}
