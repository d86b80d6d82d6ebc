// The ways by which this machine is managed, as far as they can be known: its default routes, and the route back to the session that we run in. Asks
// the kernel; changes nothing.
import { isFields, type Fields } from './json.ts';
import { runIp } from './link.ts';

/** One way. */
export interface ManagementPath {
  /** As `this machine's default route`. */
  readonly what: string;
  /** Every link that its packets may pass: the one of the route, and those that carry it (a VLAN's, a bridge's). */
  readonly links: readonly string[];
  /** The route, and the addresses of its links: equal while nothing about it has changed. */
  readonly state: string;
}

/** Rejects with a FenceError when `ip` cannot be asked. `peer` is of a session; one that has no route from here is left out. */
export async function managementPaths(peer: string | undefined): Promise<readonly ManagementPath[]> {
  const [four, six, own] = await Promise.all([
    list(['-4', 'route', 'show', 'default']),
    list(['-6', 'route', 'show', 'default']).catch(() => []),
    peer === undefined ? [] : routeTo(peer),
  ]);
  const stack = await readStack();
  return [
    ...[...four, ...six].map((route) => pathOf("this machine's default route", route, stack)),
    ...own.map((route) => pathOf(`the session from \`${peer ?? ''}\``, route, stack)),
  ];
}

async function routeTo(peer: string): Promise<readonly Fields[]> {
  const [address = '', zone] = peer.split('%');
  const by = zone === undefined ? [] : ['oif', zone];
  return await list(['route', 'get', address, ...by]).catch(() => []);
}

/** What is known of each link. */
interface Stack {
  /** The links that carry it: what a VLAN is on, the ports of a bridge. */
  readonly under: ReadonlyMap<string, readonly string[]>;
  readonly addresses: ReadonlyMap<string, readonly string[]>;
}

async function readStack(): Promise<Stack> {
  const links = (await list(['addr', 'show'])).map((one) => ({ ...one, name: String(one['ifname']) }));
  return {
    under: new Map(links.map((one) => [one.name, carriersOf(one, links)])),
    addresses: new Map(links.map((one) => [one.name, addressesOf(one)])),
  };
}

type Named = Fields & { readonly name: string };

function carriersOf({ name, ...own }: Named, links: readonly Named[]): readonly string[] {
  const below = typeof own['link'] === 'string' ? [own['link']] : [];
  return [...below, ...links.filter((one) => one['master'] === name).map((one) => one.name)];
}

function addressesOf({ addr_info: infos }: Fields): readonly string[] {
  const known = Array.isArray(infos) ? infos.filter(isFields) : [];
  return known.map(({ local, prefixlen }) => `${String(local)}/${String(prefixlen)}`).toSorted();
}

function pathOf(what: string, route: Fields, { under, addresses }: Stack): ManagementPath {
  const hops = Array.isArray(route['nexthops']) ? route['nexthops'].filter(isFields) : [];
  const devices = [route, ...hops].flatMap(({ dev }) => (typeof dev === 'string' ? [dev] : []));
  const links = new Set(devices);
  // A set that grows is walked to its end.
  for (const link of links) for (const next of under.get(link) ?? []) links.add(next);
  const { dst, gateway, via, prefsrc, metric } = route;
  const ways = hops.map(({ dev, gateway: hop, via: other }) => [dev, hop, other]);
  const own = devices.map((dev) => [dev, addresses.get(dev)]);
  return { what, links: [...links], state: JSON.stringify([dst, gateway, via, prefsrc, metric, ways, own]) };
}

async function list(words: readonly string[]): Promise<readonly Fields[]> {
  const text = await runIp(['-j', ...words]);
  const value: unknown = JSON.parse(text.trim() === '' ? '[]' : text);
  return Array.isArray(value) ? value.filter(isFields) : [];
}
