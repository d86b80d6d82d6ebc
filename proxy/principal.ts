// Says who a client is, from the two addresses of its connection alone. Nothing a client sends can change it (design.md §10).
import { parseAddress, parseRange, type AddressRange, type Principal } from '../policy/index.ts';
import type { PrincipalBinding } from './config.ts';
import { formatEndpoint, isLoopback, type Endpoint } from './endpoint.ts';

/** Undefined: nobody we know. Both ends come from the kernel. */
export type PrincipalOf = (local: Endpoint, peer: Endpoint) => Principal | undefined;

interface Bound {
  readonly principal: Principal;
  readonly range: AddressRange;
  readonly listen: string | null;
}

/**
 * The first binding whose source holds the peer and whose listener is the one it came to. A loopback listener that no binding
 * speaks of has the one principal `local`. Throws Error when a source is not a CIDR range.
 */
export function bindPrincipals(bindings: readonly PrincipalBinding[]): PrincipalOf {
  const bound = bindings.map(readBinding);
  return (local, peer) => {
    const here = formatEndpoint(local.address, local.port);
    const declared = bound.filter(({ listen }) => listen === null || listen === here);
    const from = parseAddress(peer.address);
    if (from === undefined) return undefined;
    if (declared.length === 0 && isLoopback(local.address)) return { name: 'local' };
    return declared.find(({ range }) => range.contains(from))?.principal;
  };
}

function readBinding({ name, source, listen }: PrincipalBinding): Bound {
  const range = parseRange(source);
  if ('problem' in range) {
    throw new Error(
      `principal \`${name}\`: source \`${source}\`: ${range.problem}\nhelp: give a CIDR range such as 10.0.3.0/24`,
    );
  }
  return { principal: { name }, range, listen };
}
