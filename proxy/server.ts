// Opens the ports and hands every accepted connection to serve(). Reads no byte.
import { isWildcard } from './config-network.ts';
import type { Accepting } from './conn/index.ts';
import { parseEndpoint, type Endpoint } from './endpoint.ts';
import { listens, type Listen } from './listeners/index.ts';
import { bindPrincipals, type PrincipalOf } from './principal.ts';
import { serve } from './serve.ts';
import { openStub } from './steer/index.ts';
import type { Deps } from './types.ts';

/** A port that is open. close() stops accepting; clients that are there stay. */
export interface OpenPort {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  close(): void;
}

/** Opens every port of the settings, or none: when one cannot be opened the others are closed and the error is thrown. */
export async function openPorts(deps: Deps): Promise<readonly OpenPort[]> {
  const principalOf = bindPrincipals(deps.settings.principals);
  const open: OpenPort[] = [];
  try {
    for (const one of listens(deps.settings, deps, () => deps.policyStore.current)) {
      open.push(await openPort(one, principalOf, deps));
    }
    for (const at of deps.settings.dnsListen) open.push(await openNames(at, principalOf, deps));
    return open;
  } catch (error) {
    for (const port of open) port.close();
    throw error;
  }
}

async function openPort({ name, at, door }: Listen, principalOf: PrincipalOf, deps: Deps): Promise<OpenPort> {
  const endpoint = parseEndpoint(at);
  refuseWildcard(endpoint.address, at, deps);
  const accepting: Accepting = {
    accepted: (client) => void serve(client, door, principalOf, deps),
    failed: (error) => deps.observers.bug(error, 'accept'),
  };
  const listener = await deps.network.listen(endpoint, accepting).catch((cause: unknown) => {
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

function refuseWildcard(address: string, at: string, { settings }: Deps): void {
  if (settings.allowWildcard || !isWildcard(address)) return;
  const help = 'name one address; if every network is meant, add --allow-wildcard-bind';
  throw new Error(`\`${at}\` would listen on every network of this machine\nhelp: ${help}`);
}

function cannotListen({ address, port }: Endpoint, cause: unknown): Error {
  const why = cause instanceof Error ? cause.message : String(cause);
  const help = 'choose an address of this machine and a port that is free';
  return new Error(`cannot listen on \`${address}\` port ${port}: ${why}\nhelp: ${help}`, { cause });
}
