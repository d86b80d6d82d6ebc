// Every way in, in one list. A door that is not here does not exist.
import type { Policy } from '../../policy/index.ts';
import type { ProxySettings } from '../config.ts';
import { type NamedPlace, servicePlaces } from '../service-places.ts';
import type { Deps, Door } from '../types.ts';
import { proxyDoor } from './proxy-port.ts';
import { serviceDoor } from './service.ts';
import { transparentDoor } from './transparent.ts';

export { warmHttpAgent } from './http-agent.ts';

/** One port to have: where and what for. Plain data, so that another process can be told of it. */
export interface Place {
  readonly name: string;
  /** `address:port`; port 0 lets the kernel choose. */
  readonly at: string;
  /** As it was when the ports were chosen; null is where requests name their own target. */
  readonly service: NamedPlace | null;
  /** The client takes it for the origin: it speaks TLS or plain HTTP at once. */
  readonly isTransparent?: boolean;
  /** A descriptor that listens there already. */
  readonly fd?: number;
}

/** The places of `settings`: one per `listen` and `transparent`, and one per service of the policy that has an address.
 * Throws Error with help when two services want the same port of one address, or one that is not there is given an address. */
export function placesOf(settings: ProxySettings, policy: Policy): readonly Place[] {
  const { listen, transparent } = settings;
  return [
    ...listen.map((at) => ({ name: 'connect', at, service: null })),
    ...servicePlaces(settings, [...policy.services.values()]),
    ...transparent.map((at) => ({ name: 'transparent', at, service: null, isTransparent: true })),
  ];
}

/** The door behind a place. */
export function doorOf(
  { service, isTransparent }: Place,
  deps: Pick<Deps, 'settings' | 'waiting' | 'policyStore'>,
): Door {
  if (service !== null) return serviceDoor(service, () => deps.policyStore.current);
  return isTransparent === true ? transparentDoor(deps) : proxyDoor(deps);
}
