// Where services are served: each at the address that is its own, else at the one for all of them. Opens nothing.
import type { ServiceDocument } from '../policy/index.ts';
import type { ProxySettings } from './config-types.ts';
import { formatEndpoint } from './endpoint.ts';

/** What a service's door must know of it. */
export type NamedPlace = Pick<ServiceDocument, 'name' | 'host' | 'port'>;

/** One port of one service. */
export interface ServicePlace {
  readonly name: string;
  /** `address:port`. */
  readonly at: string;
  readonly service: NamedPlace;
}

type Addresses = Pick<ProxySettings, 'serviceListen' | 'serviceAt'>;

/** The name for all ports of this machine that are offered. */
export const hostAlias = 'host.sallyport';

/** What the policy calls one of them. */
export function hostServiceName(port: number): string {
  return `host-${port}`;
}

/** Tells the address of a service by its name; null when there is none for it. */
export function serviceAddresses({ serviceListen, serviceAt }: Addresses): (name: string) => string | null {
  const own = new Map(serviceAt.map(({ name, address }) => [name, address]));
  return (name) => own.get(name) ?? serviceListen;
}

/** A place for each of `services` that has an address. Throws Error with help when two want the same, or nobody has a name that was given one. */
export function servicePlaces(settings: Addresses, services: readonly NamedPlace[]): readonly ServicePlace[] {
  const addressOf = serviceAddresses(settings);
  const unknown = settings.serviceAt.find(({ name }) => services.every((one) => one.name !== name));
  if (unknown !== undefined)
    throw new Error(`there is no service \`${unknown.name}\` to give an address\nhelp: ${unknownHelp}`);
  const places = services.flatMap(({ name, host, port }) => {
    const address = addressOf(name);
    return address === null
      ? []
      : [{ name, at: formatEndpoint(address, port), service: { name, host, port } }];
  });
  refuseClash(places);
  return places;
}

const unknownHelp = '--service-at takes the alias of a --service, of a service of the policy, or host-N';

function refuseClash(places: readonly ServicePlace[]): void {
  const first = new Map<string, string>();
  for (const { name, at } of places) {
    const other = first.get(at);
    if (other !== undefined)
      throw new Error(
        `services \`${other}\` and \`${name}\` are both to be at \`${at}\`\nhelp: give one of them an address of its own: --service-at ${name}=ADDR`,
      );
    first.set(at, name);
  }
}
