// One plain-HTTP request (RFC 9110 §7) as the proxy sees it: what it asked for, its refusals, its exchange, and the next one of the same client.
// Decides nothing. Every request is a tunnel of its own to the rest of the proxy: judged, recorded and limited by itself.
import type { Conn } from '../conn/index.ts';
import type { Arrival, Door, Inbound } from '../types.ts';
import { startExchange, type ExchangeState } from './http-exchange.ts';
import { httpRefusal } from './http-refusal.ts';
import type { HttpAsked } from './http-target.ts';

/** `client`, having asked for `target`. `next` receives what it may ask afterwards. */
export function httpInbound(
  client: Conn,
  { principal }: Pick<Arrival, 'principal'>,
  { target, request, answer }: HttpAsked,
  next: Door,
): Inbound {
  const state: ExchangeState = { isAnswered: false, isReusable: false };
  return {
    request: { principal, target, mode: 'http' },
    client,
    // The answer is upstream's.
    accept() {},
    refuse(why) {
      if (state.isAnswered) client.reset();
      else client.end(httpRefusal(why, answer));
      state.isAnswered = true;
    },
    ...(request === undefined ? {} : { exchange: (over) => startExchange(client, request, state, over) }),
    next: () => (state.isReusable ? next : undefined),
  };
}
