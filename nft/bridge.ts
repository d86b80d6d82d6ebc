// Finds out who is plugged into a bridge, and behind which port the proxy is, from the kernel's own tables: nothing that a member says (ARP, hardware
// addresses) is believed. Changes nothing.
import { FenceError } from './errors.ts';
import { isFields, type Fields } from './json.ts';
import { ipJson, ownersOf, type Port } from './namespaces.ts';
import type { Door, FenceSpec, Network } from './spec.ts';

/** Reads the bridges of a spec again and again; the search for a proxy's port is only repeated when ports have changed or none was found. */
export interface BridgeReader {
  /** `spec` with the members and doors of this moment. Rejects with a FenceError. */
  read(spec: FenceSpec): Promise<FenceSpec>;
}

export function createBridgeReader(): BridgeReader {
  const known = new Map<string, { readonly key: string; readonly door: Door }>();
  const doorOf = async (network: Network, ports: readonly Port[]): Promise<Door> => {
    const key = JSON.stringify(ports);
    const before = known.get(network.interface);
    if (before?.key === key && before.door !== 'nowhere') return before.door;
    const door = await findDoor(network, ports);
    known.set(network.interface, { key, door });
    return door;
  };
  const readOne = async (network: Network): Promise<Network> => {
    const ports = await portsOf(network.interface);
    const door = await doorOf(network, ports);
    const names = ports.map(({ name }) => name).toSorted();
    return {
      ...network,
      door,
      members: names.filter((name) => typeof door === 'string' || name !== door.port),
    };
  };
  return {
    read: async (spec) =>
      spec.networks === undefined
        ? spec
        : { ...spec, networks: await Promise.all(spec.networks.map(readOne)) },
  };
}

/** The network of a bridge's own IPv4 address. Rejects with a FenceError when it has none, or more than one. */
export async function subnetOf(bridge: string): Promise<string> {
  const addresses = (await ipJson(['-j', '-4', 'addr', 'show', 'dev', bridge])).flatMap(addressesIn);
  const [only, ...more] = addresses;
  if (only !== undefined && more.length === 0)
    return networkOf(String(only['local']), Number(only['prefixlen']));
  throw new FenceError(
    'spec_invalid',
    `\`${bridge}\` has ${addresses.length} IPv4 addresses: its network cannot be told from them`,
    'give --subnet, the network of its members',
  );
}

function networkOf(address: string, length: number): string {
  const bits = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - length);
  const first = Math.floor(bits / size) * size;
  return `${[24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join('.')}/${length}`;
}

/** A bridge that is not there (its engine is down) has no ports. */
export async function portsOf(bridge: string): Promise<readonly Port[]> {
  const links = await ipJson(['-j', 'link', 'show', 'master', bridge]).catch((error: unknown) => {
    if (error instanceof FenceError && /does not exist|Cannot find device/.test(error.message)) return [];
    throw error;
  });
  return links.map((link) => ({
    name: String(link['ifname']),
    index: link['ifindex'],
    peer: link['link_index'],
    namespace: link['link_netnsid'],
  }));
}

async function findDoor({ proxy }: Network, ports: readonly Port[]): Promise<Door> {
  if ((await ipJson(['-j', '-4', 'addr', 'show'])).some((link) => hasAddress(link, proxy))) return 'host';
  const owners = await ownersOf(ports);
  const found = new Set(owners.filter(({ link }) => hasAddress(link, proxy)).map(({ port }) => port));
  const [only, ...more] = found;
  // Two that claim the proxy's address: neither is believed.
  return only !== undefined && more.length === 0 ? { port: only } : 'nowhere';
}

function hasAddress(link: Fields, address: string): boolean {
  return addressesIn(link).some((one) => one['local'] === address);
}

function addressesIn(link: Fields): readonly Fields[] {
  const info = link['addr_info'];
  return Array.isArray(info) ? info.filter(isFields) : [];
}
