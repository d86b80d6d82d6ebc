// Which address and port each way out of a sandbox has: the proxy's own, then one more address of the link for each service whose port is taken
// by then. Plans only: network.ts, nft/ and the proxy open what is planned here.
import type { HostAlias } from './backends/index.ts';
import type { ServicePort } from './flag-values.ts';
import { RunRefused } from './refusal.ts';
import type { Slot } from './slot.ts';
import type { WiredPorts } from './wiring.ts';

/** The port on the proxy address where CONNECT is served. */
export const proxyPort = 3128;

/** The name under which `--host-port` is reached. */
export const hostAlias = 'host.sallyport';

/** TCP ports of one address. */
export interface AddressPorts {
  readonly address: string;
  readonly ports: readonly number[];
}

/** Every way out, by address. */
export interface Doors {
  /** TCP ports of the proxy's address: its own first, then services, the transparent ones, and DNS. */
  readonly ports: readonly number[];
  /** Further addresses of the link, each with its ports; empty when no port is wanted twice. */
  readonly services: readonly AddressPorts[];
  /** For the sandbox's hosts file. */
  readonly hosts: readonly HostAlias[];
  /** Services that are not at the proxy's address, as the proxy is to be told. */
  readonly serviceAt: readonly { readonly name: string; readonly address: string }[];
}

/** What a run serves by name. */
export interface NamedPorts {
  readonly services: readonly ServicePort[];
  readonly hostPorts: readonly number[];
}

/** An alias with the ports that must be at one address, and the proxy's names for them. */
interface Wanted {
  readonly alias: string;
  readonly ports: readonly number[];
  readonly names: readonly string[];
}

/** Ports that have no address yet turn to the first one at which none of theirs is taken. Throws RunRefused (usage) when the addresses do not suffice. */
export function planDoors(slot: Slot, named: NamedPorts, wired: WiredPorts): Doors {
  const own = [proxyPort, ...wired.transparent, ...wired.dns];
  const taken = [slot.proxy, ...slot.services].map((address, i) => ({
    address,
    ports: new Set(i === 0 ? own : []),
  }));
  const placed = wantedOf(named).map((wanted) => {
    const place = taken.find(({ ports }) => wanted.ports.every((port) => !ports.has(port)));
    if (place === undefined) throw tooMany(wanted, taken.length);
    for (const port of wanted.ports) place.ports.add(port);
    return { ...wanted, address: place.address };
  });
  const [first, ...further] = taken.filter(({ ports }) => ports.size > 0);
  const asked = [...(first?.ports ?? [])].filter((port) => !own.includes(port));
  return {
    ports: [proxyPort, ...asked, ...wired.transparent, ...wired.dns],
    services: further.map(({ address, ports }) => ({ address, ports: [...ports] })),
    hosts: taken.flatMap(({ address }) => {
      const names = placed.filter((one) => one.address === address).map(({ alias }) => alias);
      return names.length === 0 ? [] : [{ address, names }];
    }),
    serviceAt: placed.flatMap(({ address, names }) =>
      address === slot.proxy ? [] : names.map((name) => ({ name, address })),
    ),
  };
}

/** The aliases under which services and host ports are reached from inside. Throws RunRefused (usage) when one is given twice. */
export function aliasesOf(named: NamedPorts): readonly string[] {
  const aliases = wantedOf(named).map(({ alias }) => alias);
  refuseTwice(aliases, 'alias', 'give each service an alias of its own; those of the policy count, too');
  refuseTwice(named.hostPorts.map(String), '--host-port', 'give each port of this machine once');
  return aliases;
}

/** One name for all ports of the host: they are at one address. The proxy calls each `host-N`. */
function wantedOf({ services, hostPorts }: NamedPorts): readonly Wanted[] {
  const host = { alias: hostAlias, ports: hostPorts, names: hostPorts.map((port) => `host-${port}`) };
  return [
    ...services.map(({ name, port }) => ({ alias: name, ports: [port], names: [name] })),
    ...(hostPorts.length > 0 ? [host] : []),
  ];
}

function refuseTwice(all: readonly string[], what: string, help: string): void {
  const twice = all.find((one, index) => all.indexOf(one) < index);
  if (twice !== undefined) throw new RunRefused('usage', `${what} \`${twice}\` is given twice`, help);
}

function tooMany({ alias, ports }: Wanted, addresses: number): RunRefused {
  return new RunRefused(
    'usage',
    `\`${alias}\` finds no address: port ${ports.join(', ')} is taken at all ${addresses} of this run`,
    'give fewer services of one port, or another port to some',
  );
}
