// Tries the ways for which the sandbox has no route at all, before anything is lent to it: the kernel must say so, and make no packet.
import { setTimeout as delay } from 'node:timers/promises';
import { neighboursOf, type Place } from './place.ts';
import type { ProbeOrder } from './probe-child.ts';
import type { Prober } from './prober.ts';

/** What the kernel said to one way. */
export interface Unrouted {
  readonly id: string;
  readonly what: string;
  /** Its code; '' when it said nothing, `connected` or `sent` when there was a way. */
  readonly said: string;
}

const limitMs = 3000;

interface Way {
  readonly id: string;
  readonly what: string;
  readonly kind: 'tcp' | 'udp4' | 'udp6';
  readonly address: string;
  readonly port: number;
}

/** Every way, with what must not be there. */
export function waysOf({ names, slot, ports }: Pick<Place, 'names' | 'slot' | 'ports'>): readonly Way[] {
  const { next } = neighboursOf(slot);
  const [port = 0] = ports;
  return [
    { id: 'no-route-tcp', what: 'no route for TCP elsewhere', kind: 'tcp', address: '192.0.2.1', port: 443 },
    { id: 'no-route-dns', what: 'no route for DNS', kind: 'udp4', address: '192.0.2.1', port: 53 },
    {
      id: 'no-route-metadata',
      what: 'no route for metadata',
      kind: 'tcp',
      address: '169.254.169.254',
      port: 80,
    },
    { id: 'no-route-lateral', what: 'no route to another sandbox', kind: 'tcp', address: next.sandbox, port },
    { id: 'no-route-mdns', what: 'no route for mDNS', kind: 'udp4', address: '224.0.0.251', port: 5353 },
    {
      id: 'no-route-six-tcp',
      what: 'with IPv6 off, no route for its TCP',
      kind: 'tcp',
      address: '2001:db8:ffff::1',
      port: 443,
    },
    {
      id: 'no-route-six-udp',
      what: 'with IPv6 off, no route for its UDP',
      kind: 'udp6',
      address: '2001:db8:ffff::1',
      port: 53,
    },
    {
      id: 'no-route-six-link',
      what: 'with IPv6 off, no link-local IPv6',
      kind: 'udp6',
      address: `fe80::1%${names.peer}`,
      port: 53,
    },
  ];
}

/** Tries them all at once. */
export async function tryUnrouted(prober: Prober, place: Place): Promise<readonly Unrouted[]> {
  return await Promise.all(
    waysOf(place).map(async ({ id, what, ...order }) => ({
      id,
      what,
      said: await Promise.race([said(prober, { id, ...order }), delay(limitMs, '', { ref: false })]),
    })),
  );
}

async function said(prober: Prober, order: ProbeOrder): Promise<string> {
  return await new Promise((resolve) => {
    prober.order(order, (answer) => resolve(answer.outcome === 'error' ? answer.error : answer.outcome));
  });
}
