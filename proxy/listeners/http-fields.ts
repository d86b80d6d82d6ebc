// Which header fields cross a proxy and which end at it, in both directions (RFC 9110 §7.6.1). Pure: knows no framing and no sockets.
import type { Field } from './request-head.ts';

/** Of one hop, whatever Connection says. Expect and Upgrade are answered by whoever reads them here; Host and lengths are written anew. */
const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Ours alone, the proxy's, or about who is behind it: no side may set them for the other. */
const ownPrefixes = ['proxy-', 'sallyport-', 'x-sallyport-', 'x-forwarded-'];
const aboutTheClient: ReadonlySet<string> = new Set(['forwarded', 'via', 'x-real-ip']);

/** The fields of `fields` that go on, in order. */
export function endToEnd(fields: readonly Field[]): Field[] {
  const nominated = new Set(listOf(fields, 'connection'));
  return fields.filter(
    ([name]) =>
      !hopByHop.has(name) &&
      !nominated.has(name) &&
      !aboutTheClient.has(name) &&
      !ownPrefixes.some((prefix) => name.startsWith(prefix)),
  );
}

/** All values of `name`, as sent. */
export function valuesOf(fields: readonly Field[], name: string): readonly string[] {
  return fields.filter(([other]) => other === name).map(([, value]) => value);
}

/** The members of a comma-separated field, in lower case, empty ones left out. */
export function listOf(fields: readonly Field[], name: string): readonly string[] {
  const members = valuesOf(fields, name).flatMap((value) => value.split(','));
  return members.map((member) => member.trim().toLowerCase()).filter((member) => member !== '');
}
