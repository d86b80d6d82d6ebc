// The CONNECT door (RFC 9110 §9.3.6): reads one request head, answers in HTTP. Decides nothing, and takes nothing from the
// head but the authority: no header field of a client's changes who it is or what it may do.
import type { Target } from '../../policy/index.ts';
import type { Conn } from '../conn/index.ts';
import type { Arrival, Deps, Door, Inbound, Refusal } from '../types.ts';
import { askedBy, type Asked, type HttpFault } from './connect-target.ts';
import { readHead } from './read-head.ts';

const established = 'HTTP/1.1 200 Connection established\r\n\r\n';

export function connectDoor({ settings, waiting }: Pick<Deps, 'settings' | 'waiting'>): Door {
  const { headBytes: maxBytes, headTimeoutMs: timeoutMs } = settings;
  return {
    mode: 'connect',
    async receive(client, arrival) {
      const place = waiting.acquire(arrival.principal?.name ?? '');
      if (!place.ok) return { ...inboundOf(client, arrival, nothingAsked), turnedAway: place.reason };
      const read = await readHead(client, { maxBytes, timeoutMs, signal: arrival.signal });
      place.release();
      if (read.kind === 'gone') return undefined;
      return inboundOf(client, arrival, askedBy(read));
    },
  };
}

const unread: Target = {
  kind: 'malformed',
  shown: '',
  problem: 'the request was not read',
  help: 'try again later',
};
const nothingAsked: Asked = { target: unread };

function inboundOf(client: Conn, { principal }: Arrival, { target, answer }: Asked): Inbound {
  let isAnswered = false;
  return {
    request: { principal, target, mode: 'connect' },
    client,
    accept() {
      isAnswered = true;
      client.write(established);
    },
    refuse(why) {
      if (isAnswered) client.reset();
      else client.end(refusalText(why, why.reason === 'request_malformed' ? answer : undefined));
      isAnswered = true;
    },
  };
}

/** A refusal in HTTP. Every part is ours: fixed words, numbers, and JSON, which leaves no line end unescaped. */
export function refusalText(why: Refusal, fault?: HttpFault): string {
  const { status, statusText } = fault ?? why;
  const body = `${JSON.stringify(why.body)}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${statusText}`,
    `Sallyport-Reason: ${why.reason}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(why.retryAfterS === undefined ? [] : [`Retry-After: ${why.retryAfterS}`]),
    ...(fault?.headers ?? []),
    'Connection: close',
  ];
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}
