// A refusal as an HTTP/1.1 answer: the same words for CONNECT and for plain HTTP. Chooses no status and sends nothing.
import type { Refusal } from '../types.ts';

/** A status of HTTP's own for a head that was at fault. */
export interface HttpFault {
  readonly status: number;
  readonly statusText: string;
}

/** Every part is ours: fixed words, numbers, and JSON, which leaves no line end unescaped. */
export function httpRefusal(why: Refusal, fault?: HttpFault): string {
  const own = why.reason === 'request_malformed' ? fault : undefined;
  const { status, statusText } = own ?? why;
  const body = `${JSON.stringify(why.body)}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${statusText}`,
    `Sallyport-Reason: ${why.reason}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(why.retryAfterS === undefined ? [] : [`Retry-After: ${why.retryAfterS}`]),
    'Connection: close',
  ];
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}
