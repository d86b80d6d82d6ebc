// Every way in, in one list. A door that is not here does not exist.
import type { Policy, CompiledService } from '../../policy/index.ts';
import type { ProxySettings } from '../config.ts';
import { formatEndpoint } from '../endpoint.ts';
import type { Deps, Door } from '../types.ts';
import { connectDoor } from './connect.ts';
import { serviceDoor } from './service.ts';
import { transparentDoor } from './transparent.ts';

/** One port to open: where, what for, and the door behind it. */
export interface Listen {
  readonly name: string;
  /** `address:port`; port 0 lets the kernel choose. */
  readonly at: string;
  readonly door: Door;
}

/** The ports of `settings`: one per `listen` and `transparent`, and one per service of the policy when there is an address for them. */
export function listens(
  settings: ProxySettings,
  deps: Pick<Deps, 'settings' | 'waiting'>,
  policy: () => Policy,
): Listen[] {
  return [
    ...settings.listen.map((at) => ({ name: 'connect', at, door: connectDoor(deps) })),
    ...servicePorts(settings.serviceListen, [...policy().services.values()]).map(({ at, service }) => ({
      name: service.name,
      at,
      door: serviceDoor(service, policy),
    })),
    ...settings.transparent.map((at) => ({ name: 'transparent', at, door: transparentDoor(deps) })),
  ];
}

function servicePorts(
  address: string | null,
  services: readonly CompiledService[],
): readonly { at: string; service: CompiledService }[] {
  if (address === null) return [];
  return services.map((service) => ({ at: formatEndpoint(address, service.port), service }));
}
