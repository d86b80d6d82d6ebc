// One CONNECT client (RFC 9110 §9.3.6) as the proxy sees it: what it asked for, and its answers in HTTP. Decides nothing, and takes nothing
// from the head but the authority: no header field of a client's changes who it is or what it may do.
import type { Conn } from '../conn/index.ts';
import type { Arrival, Inbound } from '../types.ts';
import type { Asked } from './head-fault.ts';
import { httpRefusal } from './http-refusal.ts';

const established = 'HTTP/1.1 200 Connection established\r\n\r\n';

/** `client`, having asked for `target`. */
export function connectInbound(
  client: Conn,
  { principal }: Pick<Arrival, 'principal'>,
  { target, answer }: Asked,
): Inbound {
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
      else client.end(httpRefusal(why, answer));
      isAnswered = true;
    },
  };
}
