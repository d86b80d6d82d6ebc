// Which part of an authority that could not be read may stand in a log: never userinfo, a path or a query, which hold passwords and tokens.
// Decides nothing: what is cut here is malformed already.
import { printable } from './printable.ts';

/** What looks like the host and the port of `authority`, printable, at most 80 characters; empty when it cannot be told. */
export function shownAuthority(authority: string): string {
  const text = authority.replace(/^[a-z][a-z\d+.-]*:\/\//iu, '');
  const end = text.search(/[/?#\\;&=%]/u);
  const at = text.lastIndexOf('@');
  // An `@` behind a `/` may be of a password or of a query: then no part is known to be the host.
  if (end !== -1 && at > end) return '';
  return printable(withoutWords(text.slice(at + 1, end === -1 ? undefined : end)));
}

/** The digits of a port, with a sign if there is one; what else stands behind a colon is not repeated. */
export function shownPort(text: string): string | undefined {
  return /^[+-]?\d+$/u.test(text) ? printable(text) : undefined;
}

// An IPv6 address keeps its colons; behind any other colon nothing but a number is shown.
function withoutWords(text: string): string {
  if (/^(?:[\da-f]*:){2,}[\da-f.]*$/iu.test(text)) return text;
  const [, host = '', rest = ''] = /^(\[[^\]]*\]|[^:]*)(.*)$/su.exec(text) ?? [];
  return rest === '' || shownPort(rest.slice(1)) !== undefined ? text : `${host}:`;
}
