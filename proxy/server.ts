// Opens the ports and hands every accepted connection to serve(). Reads no byte.
import { isWildcard } from './config-network.ts';
import type { Accepting } from './conn/index.ts';
import { parseEndpoint, type Endpoint } from './endpoint.ts';
import type { ProxySettings } from './config.ts';
import { doorOf, type Place } from './listeners/index.ts';
import { bindPrincipals, type PrincipalOf } from './principal.ts';
import { serve } from './serve.ts';
import { openStub } from './steer/index.ts';
import type { Deps } from './types.ts';

export { type Place, placesOf } from './listeners/index.ts';

/** A port that is open. close() stops accepting; clients that are there stay. */
export interface OpenPort {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  close(): void;
}

/** Opens every place, or none: when one cannot be opened the others are closed and the error is thrown. */
export async function openPorts(places: readonly Place[], deps: Deps): Promise<readonly OpenPort[]> {
  const principalOf = bindPrincipals(deps.settings.principals);
  const open: OpenPort[] = [];
  try {
    for (const place of places) open.push(await openPort(place, principalOf, deps));
    for (const at of deps.settings.dnsListen) open.push(await openNames(at, principalOf, deps));
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
  const accepting: Accepting = {
    accepted: (client) => void serve(client, door, principalOf, deps),
    failed: (error) => deps.observers.notAccepted(error),
  };
  const listener = await deps.network
    .listen({ ...endpoint, ...(fd !== undefined && { fd }) }, accepting)
    .catch((cause: unknown) => {
      throw cannotListen(endpoint, cause);
    });
  return { ...listener, name };
}

async function openNames(at: string, principalOf: PrincipalOf, deps: Deps): Promise<OpenPort> {
  const stub = await openStub(at, principalOf, deps).catch((cause: unknown) => {
    throw cannotListen(parseEndpoint(at), cause);
  });
  return { ...stub, name: 'dns' };
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
export function cannotListen({ address, port }: Endpoint, cause: unknown): Error {
  const why = cause instanceof Error ? cause.message : String(cause);
  const help = 'choose an address of this machine and a port that is free';
  return new Error(`cannot listen on \`${address}\` port ${port}: ${why}\nhelp: ${help}`, { cause });
}
