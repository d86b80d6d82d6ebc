// What an apply must leave alone: this machine's own way to the world, the proxy, and everybody else's rules. Changes nothing.
import { connect } from 'node:net';
import { once } from 'node:events';
import { FenceError } from './errors.ts';
import { isFields } from './json.ts';
import { runIp } from './link.ts';
import type { NftObject } from './objects.ts';
import { linksOf, type FenceSpec } from './spec.ts';
import type { WatchedNft } from './transaction.ts';

const connectMs = 1000;

/** What was true before, to be compared with what is true after. */
export interface Surroundings {
  /** `address:port` of each proxy that took a TCP connection from this machine. */
  readonly proxies: readonly string[];
  /** Every table but ours, without handles and counts. */
  readonly tables: string;
}

/** Throws a FenceError `lock_out` when a default route of this machine leaves by an interface that is to be fenced. */
export async function refuseLockOut(spec: FenceSpec): Promise<void> {
  const fenced = linksOf(spec);
  const routes = [
    await runIp(['-j', '-4', 'route', 'show', 'default']),
    await runIp(['-j', '-6', 'route', 'show', 'default']).catch(() => '[]'),
  ].flatMap(readList);
  const carriers = new Set(routes.map((route) => (isFields(route) ? route['dev'] : undefined)));
  const caught = fenced.find((name) => carriers.has(name));
  if (caught === undefined) return;
  throw new FenceError(
    'lock_out',
    `\`${caught}\` carries this machine's default route: behind the fence it would be cut off`,
    "give the interface that leads to the sandbox, not the machine's own",
  );
}

/** Looks around. Rejects with a FenceError when the kernel cannot be asked. */
export async function lookAround(nft: WatchedNft, spec: FenceSpec): Promise<Surroundings> {
  const doors = new Set(
    [...spec.sandboxes, ...(spec.networks ?? [])].flatMap((one) =>
      one.ports.map((port) => `${one.proxy}:${port}`),
    ),
  );
  const open = await Promise.all([...doors].map(async (door) => ((await answers(door)) ? [door] : [])));
  const others = (await nft.ruleset()).filter((object) => !isOurs(object, spec.table));
  return { proxies: open.flat(), tables: JSON.stringify(others, withoutCounts) };
}

/** What became worse, in words. */
export function compareSurroundings(before: Surroundings, after: Surroundings): readonly string[] {
  return [
    ...before.proxies
      .filter((door) => !after.proxies.includes(door))
      .map((door) => `the proxy at \`${door}\` took connections before and does not now`),
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

function readList(text: string): readonly unknown[] {
  const value: unknown = JSON.parse(text === '' ? '[]' : text);
  return Array.isArray(value) ? value : [];
}
