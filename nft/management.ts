// What an apply must leave alone: this machine's own way to the world, the proxy, and everybody else's rules. Changes nothing.
import { connect, isIPv4 } from 'node:net';
import { once } from 'node:events';
import { FenceError } from './errors.ts';
import { managementPaths, type ManagementPath } from './management-path.ts';
import type { NftObject } from './objects.ts';
import { isWithin } from './spec-fields.ts';
import { asPrefix, linksOf, type FenceSpec } from './spec.ts';
import type { WatchedNft } from './transaction.ts';

const connectMs = 1000;

/** What was true before, to be compared with what is true after. */
export interface Surroundings {
  /** `address:port` of each proxy that took a TCP connection from this machine. */
  readonly proxies: readonly string[];
  /** Every table but ours, without handles and counts. */
  readonly tables: string;
  readonly paths: readonly ManagementPath[];
}

/**
 * Throws a FenceError `lock_out` when a rule of the fence names a link by which this machine is managed, or when the session that we run in comes from a
 * network that is to be fenced.
 */
export async function refuseLockOut(spec: FenceSpec, peer?: string): Promise<void> {
  const named = linksNamed(spec);
  for (const { what, links } of await managementPaths(peer)) {
    const caught = links.find((link) => named.has(link));
    if (caught !== undefined) throw lockOut(`\`${caught}\` carries ${what}`);
  }
  const holds = (spec.networks ?? []).find(
    ({ subnet }) => isIPv4(peer ?? '') && isWithin(peer ?? '', asPrefix(subnet)),
  );
  if (holds !== undefined) throw lockOut(`\`${holds.subnet}\` holds the session from \`${peer ?? ''}\``);
}

function lockOut(what: string): FenceError {
  return new FenceError(
    'lock_out',
    `${what}: behind the fence it would be cut off`,
    "give the interface that leads to the sandbox, not the machine's own",
  );
}

/** Every link that a rule of the plan names: the sandboxes' and bridges', and the bridges' ports. */
function linksNamed(spec: FenceSpec): ReadonlySet<string> {
  const doors = (spec.networks ?? []).map(({ door }) => (typeof door === 'object' ? door.port : ''));
  return new Set([...linksOf(spec), ...(spec.networks ?? []).flatMap(({ members }) => members), ...doors]);
}

/** Looks around. Rejects with a FenceError when the kernel cannot be asked. */
export async function lookAround(nft: WatchedNft, spec: FenceSpec, peer?: string): Promise<Surroundings> {
  const doors = new Set(
    [...spec.sandboxes, ...(spec.networks ?? [])].flatMap((one) =>
      one.ports.map((port) => `${one.proxy}:${port}`),
    ),
  );
  const open = await Promise.all([...doors].map(async (door) => ((await answers(door)) ? [door] : [])));
  const others = (await nft.ruleset()).filter((object) => !isOurs(object, spec.table));
  const paths = await managementPaths(peer);
  return { proxies: open.flat(), tables: JSON.stringify(others, withoutCounts), paths };
}

/** What became worse, in words. */
export function compareSurroundings(before: Surroundings, after: Surroundings): readonly string[] {
  return [
    ...before.proxies
      .filter((door) => !after.proxies.includes(door))
      .map((door) => `the proxy at \`${door}\` took connections before and does not now`),
    ...before.paths
      .filter(({ what, state }) => !after.paths.some((one) => one.what === what && one.state === state))
      .map(({ what }) => `${what} is not as it was`),
    ...(before.tables === after.tables ? [] : ["another program's rules changed meanwhile"]),
  ];
}

async function answers(door: string): Promise<boolean> {
  const [host = '', port = ''] = door.split(':');
  const socket = connect({ host, port: Number(port), timeout: connectMs });
  socket.on('error', () => undefined);
  socket.on('timeout', () => void socket.destroy(new Error('timeout')));
  const isOpen = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  return isOpen;
}

function isOurs(object: NftObject, table: string): boolean {
  return Object.values(object).some((body) => (body['table'] ?? body['name']) === table);
}

/** Left out: what changes by itself. */
const counts = new Set(['packets', 'bytes', 'used', 'expires', 'handle']);

function withoutCounts(key: string, value: unknown): unknown {
  return counts.has(key) ? undefined : value;
}
