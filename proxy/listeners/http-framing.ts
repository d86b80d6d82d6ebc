// How long the content of a request is, or that two readers could disagree about it, which refuses it (RFC 9112 §6). Pure.
import { listOf, valuesOf } from './http-fields.ts';
import type { Field, RequestHead } from './request-head.ts';

/** `length` has at least one byte. */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' };

/** The framing, or what is wrong with it. */
export function framingOf({ fields, minor }: RequestHead): Framing | { readonly problem: string } {
  const lengths = valuesOf(fields, 'content-length');
  const codings = valuesOf(fields, 'transfer-encoding');
  if (fields.some(([name]) => isDisguised(name))) return { problem: 'a framing field is spelt with `_`' };
  if (codings.length > 0 && lengths.length > 0)
    return { problem: 'there is both a Content-Length and a Transfer-Encoding' };
  if (codings.length > 0) return codedFraming(codings, minor);
  const [length] = lengths;
  if (lengths.length > 1) return { problem: 'there is more than one Content-Length' };
  if (length === undefined) return { kind: 'none' };
  if (!/^\d{1,15}$/u.test(length)) return { problem: 'the Content-Length is not a plain number' };
  const bytes = Number(length);
  return bytes === 0 ? { kind: 'none' } : { kind: 'length', bytes };
}

function codedFraming(codings: readonly string[], minor: 0 | 1): Framing | { readonly problem: string } {
  if (minor === 0) return { problem: 'HTTP/1.0 has no Transfer-Encoding' };
  if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked')
    return { problem: 'the only Transfer-Encoding is one that says `chunked`' };
  return { kind: 'chunked' };
}

/** Some servers (CGI and its heirs) read `_` as `-`. */
function isDisguised(name: string): boolean {
  return name.includes('_') && framingNames.has(name.replaceAll('_', '-'));
}

const framingNames: ReadonlySet<string> = new Set(['content-length', 'transfer-encoding', 'host']);

/** The length that an answer states; undefined when it states none that can be kept. `codings` other than chunked are not. */
export function statedLength(fields: readonly Field[]): number | 'chunked' | 'unknown' | undefined {
  const codings = listOf(fields, 'transfer-encoding');
  if (codings.length > 0) return codings.length === 1 && codings[0] === 'chunked' ? 'chunked' : 'unknown';
  const [length, ...more] = valuesOf(fields, 'content-length');
  return length !== undefined && more.length === 0 && /^\d{1,15}$/u.test(length) ? Number(length) : undefined;
}
