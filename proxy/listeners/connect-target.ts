// What the head of a CONNECT request asks for. Opens nothing.
import { parseTarget, type Target } from '../../policy/index.ts';
import { isSameTarget, malformed, readAuthority } from './authority.ts';
import { valuesOf } from './http-fields.ts';
import { headFault, type Asked } from './head-fault.ts';
import type { ReadHead } from './read-head.ts';
import type { Field, RequestHead } from './request-head.ts';

const sendConnect = 'send `CONNECT host:port HTTP/1.1` and an empty line';

/** Reads a head that came, or names what is wrong with one that did not. */
export function askedBy(read: Exclude<ReadHead, { kind: 'gone' }>): Asked {
  return read.kind === 'complete' ? askedByHead(read.head) : headFault(read, sendConnect);
}

/** What a CONNECT asks for. */
function askedByHead(head: RequestHead): Asked {
  // Beyond ASCII it is refused whatever it is; read as UTF-8 it can be told its ACE spelling.
  const authority = Buffer.from(head.target, 'latin1').toString();
  const target = readAuthority(authority);
  const problem = target.kind === 'malformed' ? undefined : fieldProblem(head.fields, target);
  return { target: problem === undefined ? target : malformed(problem, sendConnect, head.target) };
}

/**
 * RFC 9112 §3.2: Host must equal the authority of the request line. It may be absent, although HTTP/1.1 asks for it: nothing
 * is read from it, and small clients leave it out. Without a port it stands for the host alone. Twice is refused.
 * RFC 9110 §9.3.6: CONNECT has no content; a length or a transfer coding would make two readings possible.
 */
function fieldProblem(
  fields: readonly Field[],
  target: Exclude<Target, { kind: 'malformed' }>,
): string | undefined {
  const hosts = valuesOf(fields, 'host');
  if (hosts.length > 1) return 'there is more than one Host field';
  if (hosts.some((host) => !isSameTarget(parseTarget(host, target.port), target))) {
    return 'the Host field names another host than the request line';
  }
  const hasContent = valuesOf(fields, 'content-length').some((length) => length !== '0');
  if (hasContent || valuesOf(fields, 'transfer-encoding').length > 0)
    return 'a CONNECT request has no content';
  return undefined;
}
