// Reads the setting of a parent proxy, whose credentials it never repeats: not in an error, and not when it is shown. Opens nothing.
import { canonicalHost, parseAddress, parsePort } from '../policy/index.ts';
import { BadValue, type Reader, scalar } from './config-readers.ts';
import type { ParentProxy } from './config-types.ts';

/** `http://[USER:PASS@]HOST:PORT`. */
export const parent: Reader<ParentProxy> = scalar('http://[USER:PASS@]HOST:PORT', readParent, showParent);

const help = 'give http://HOST:PORT or http://USER:PASS@HOST:PORT, percent-encoded where it must be';

function readParent(given: string): ParentProxy {
  const [, user, v6, name, digits] =
    /^http:\/\/(?:([^@/]*)@)?(?:\[([0-9a-fA-F:.]+)\]|([^@:/[\]]+)):(\d+)\/?$/u.exec(given) ?? [];
  const port = parsePort(digits ?? '');
  const host = hostOf(v6 ?? name ?? '');
  const credentials = user === undefined ? null : decoded(user);
  if (port === undefined || host === undefined || credentials === undefined)
    throw new BadValue('the parent proxy is not one http URL with a host and a port', help);
  return { host, port, credentials };
}

function hostOf(text: string): string | undefined {
  const literal = parseAddress(text);
  if (literal !== undefined) return literal.text;
  const read = canonicalHost(text);
  return 'host' in read ? read.host : undefined;
}

/** RFC 7617 §2: one colon at least, and no control byte. */
function decoded(user: string): string | undefined {
  try {
    const text = decodeURIComponent(user);
    return text.includes(':') && !/\p{Cc}/u.test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}

function showParent({ host, port, credentials }: ParentProxy): string {
  return `http://${credentials === null ? '' : '***@'}${host.includes(':') ? `[${host}]` : host}:${port}`;
}
