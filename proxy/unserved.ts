// What a policy that was read again allows, and no port is there for: ports are those of the start, for they need rights that are given up then. Says
// so in words; it opens nothing.
import type { Policy } from '../policy/index.ts';
import type { ProxySettings } from './config-types.ts';
import { parseEndpoint } from './endpoint.ts';
import { serviceAddresses } from './service-places.ts';

/** What is missing for a policy in force; empty when each of its ports and services is as it was at the start. */
export type Unserved = (policy: Policy) => readonly string[];

type Places = Pick<ProxySettings, 'transparent' | 'serviceListen' | 'serviceAt'>;

/** `atStart` is the policy for which the ports were opened. Ports that it named and nobody listens on were left out by whoever chose the ports. */
export function unservedSince(settings: Places, atStart: Policy): Unserved {
  const services = servicesOf(settings, atStart);
  const ports = new Set([
    ...settings.transparent.map((at) => parseEndpoint(at).port),
    ...portsOf(settings, atStart),
  ]);
  return (policy) => [
    ...[...servicesOf(settings, policy)].filter((one) => !services.has(one)),
    ...[...portsOf(settings, policy)].filter((port) => !ports.has(port)).map((port) => `port ${port}`),
  ];
}

function servicesOf(settings: Places, policy: Policy): ReadonlySet<string> {
  const addressOf = serviceAddresses(settings);
  const served = [...policy.services.values()].filter(({ name }) => addressOf(name) !== null);
  return new Set(served.map(({ name, port }) => `service \`${name}\` on port ${port}`));
}

/** Ports that rules name, where clients may come without a proxy. Not by the document: of a large policy that takes long to read. */
function portsOf({ transparent }: Places, { text }: Policy): ReadonlySet<number> {
  if (transparent.length === 0) return new Set();
  // INVARIANT: the text is canonical: a key begins its line, and no text in it holds a line's end.
  const lists = text.matchAll(/\n *"ports": \[([\s0-9,]+)\]/gu);
  return new Set([...lists].flatMap(([, list = '']) => list.split(',').map(Number)));
}
