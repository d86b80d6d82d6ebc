// Reads the host and port of a request, whichever protocol wrote them: one grammar, and no password shown. Decides nothing.
import { parseTarget, type Target } from '../../policy/index.ts';

/** What is wrong with a request that names no target, and what to send instead. `shown` must be printable. */
export function malformed(problem: string, help: string, shown: string = ''): Target {
  return { kind: 'malformed', shown, problem, help };
}

/** `authority` is of UTF-8 bytes: beyond ASCII it is refused whatever it is, but can be told its ACE spelling. */
export function readAuthority(authority: string, defaultPort?: number): Target {
  const target = parseTarget(authority, defaultPort);
  if (target.kind !== 'malformed' || !authority.includes('@')) return target;
  // Refused for its `@` anyway; what stands before it may be a password, so nothing shows it.
  return malformed('there is an `@` in the authority', 'send `host:port`, without a user', target.shown);
}

/** The same host, in its canonical spelling, and the same port. Nothing malformed is the same as anything. */
export function isSameTarget(a: Target, b: Target): boolean {
  if (a.kind === 'name' && b.kind === 'name') return a.host === b.host && a.port === b.port;
  return (
    a.kind === 'address' && b.kind === 'address' && a.address.text === b.address.text && a.port === b.port
  );
}
