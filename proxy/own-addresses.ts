// The addresses of this machine's own interfaces, which no tunnel may reach. Looks at most once a second.
import { networkInterfaces } from 'node:os';
import { parseAddress, type Address } from '../policy/index.ts';

const keepMs = 1000;

/** Returns a function that lists them; `clock` in ms. */
export function watchOwnAddresses(clock: () => number): () => readonly Address[] {
  let seen: { at: number; addresses: readonly Address[] } | undefined;
  return () => {
    const now = clock();
    // A clock that went back looks again.
    if (seen === undefined || now - seen.at >= keepMs || now < seen.at) seen = { at: now, addresses: list() };
    return seen.addresses;
  };
}

function list(): readonly Address[] {
  return Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .map(({ address }) => parseAddress(address.replace(/%.*$/u, '')))
    .filter((address) => address !== undefined);
}
