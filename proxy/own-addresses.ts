// The addresses of this machine's own interfaces, which no tunnel may reach. Looks at most once a second.
import { networkInterfaces } from 'node:os';
import { parseAddress, type Address } from '../policy/index.ts';

const keepMs = 1000;

/**
 * Returns a function that lists them; `clock` in ms. Looks at once, and throws when it cannot: after that the function never does. A look
 * that fails later (no descriptor is free) leaves the list as it was, and the next call looks again.
 */
export function watchOwnAddresses(
  clock: () => number,
  look: () => readonly Address[] = ofInterfaces,
): () => readonly Address[] {
  let seen = { at: clock(), addresses: look() };
  return () => {
    const now = clock();
    // A clock that went back looks again.
    if (now - seen.at >= keepMs || now < seen.at) seen = lookAgain(seen, now, look);
    return seen.addresses;
  };
}

interface Seen {
  readonly at: number;
  readonly addresses: readonly Address[];
}

function lookAgain(before: Seen, now: number, look: () => readonly Address[]): Seen {
  try {
    return { at: now, addresses: look() };
  } catch {
    return before;
  }
}

function ofInterfaces(): readonly Address[] {
  return Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .map(({ address }) => parseAddress(address.replace(/%.*$/u, '')))
    .filter((address) => address !== undefined);
}
