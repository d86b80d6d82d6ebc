// Finds out who is plugged into a bridge, and behind which port the proxy is, from the kernel's own tables: nothing that a member says (ARP, hardware
// addresses) is believed. Changes nothing.
import { readdir, readlink } from 'node:fs/promises';
import { FenceError } from './errors.ts';
import { isFields, type Fields } from './json.ts';
import { runIp } from './link.ts';
import type { Door, FenceSpec, Network } from './spec.ts';

/** One port of a bridge and the link at its other end, by interface numbers. */
interface Port {
  readonly name: string;
  readonly index: unknown;
  readonly peer: unknown;
}

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
async function portsOf(bridge: string): Promise<readonly Port[]> {
  const links = await ipJson(['-j', 'link', 'show', 'master', bridge]).catch((error: unknown) => {
    if (error instanceof FenceError && /does not exist|Cannot find device/.test(error.message)) return [];
    throw error;
  });
  return links.map((link) => ({
    name: String(link['ifname']),
    index: link['ifindex'],
    peer: link['link_index'],
  }));
}

async function findDoor({ proxy }: Network, ports: readonly Port[]): Promise<Door> {
  if ((await ipJson(['-j', '-4', 'addr', 'show'])).some((link) => hasAddress(link, proxy))) return 'host';
  const found = new Set<string>();
  for (const path of await namespaces())
    for (const link of await linksIn(path)) {
      const port = ports.find(({ index, peer }) => link['link_index'] === index && link['ifindex'] === peer);
      if (port !== undefined && hasAddress(link, proxy)) found.add(port.name);
    }
  const [only, ...more] = found;
  // Two that claim the proxy's address: neither is believed.
  return only !== undefined && more.length === 0 ? { port: only } : 'nowhere';
}

/** A path of every other network namespace: those of processes, and those that engines keep by name. */
async function namespaces(): Promise<readonly string[]> {
  const named = ['/run/netns', '/run/docker/netns', '/var/run/docker/netns'];
  const files = named.map(async (folder) => (await list(folder)).map((name) => `${folder}/${name}`));
  const processes = (await list('/proc')).filter((name) => /^[0-9]+$/.test(name));
  const own = await readlink('/proc/self/ns/net');
  const seen = new Map<string, string>();
  for (const pid of processes) {
    const path = `/proc/${pid}/ns/net`;
    const identity = await readlink(path).catch(() => own);
    if (identity !== own) seen.set(identity, path);
  }
  return [...seen.values(), ...(await Promise.all(files)).flat()];
}

async function list(folder: string): Promise<readonly string[]> {
  return await readdir(folder).catch(() => []);
}

/** A namespace that ended meanwhile has no links. */
async function linksIn(path: string): Promise<readonly Fields[]> {
  const enter = ['nsenter', `--net=${path}`, '--'];
  return parse(await runIp(['-j', '-4', 'addr', 'show'], { enter }).catch(() => ''));
}

async function ipJson(args: readonly string[]): Promise<readonly Fields[]> {
  return parse(await runIp(args));
}

function parse(text: string): readonly Fields[] {
  const value: unknown = JSON.parse(text.trim() === '' ? '[]' : text);
  return Array.isArray(value) ? value.filter(isFields) : [];
}

function hasAddress(link: Fields, address: string): boolean {
  return addressesIn(link).some((one) => one['local'] === address);
}

function addressesIn(link: Fields): readonly Fields[] {
  const info = link['addr_info'];
  return Array.isArray(info) ? info.filter(isFields) : [];
}
