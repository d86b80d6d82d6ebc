// Closes, inside the namespaces of a network's members, the way to the engine's own resolver: it carries their questions to the host's resolvers
// from outside of every fence around the bridge (Docker). Adds one table of ours there, and touches no other.
import { createHash } from 'node:crypto';
import { readlink } from 'node:fs/promises';
import { portsOf } from './bridge.ts';
import { createNft } from './client.ts';
import { FenceError } from './errors.ts';
import { enter, namespaces, ownersOf, type Port } from './namespaces.ts';
import * as o from './objects.ts';
import type { FenceSpec } from './spec.ts';
import { removeTable, replaceTable, type Nft, type Transaction } from './transaction.ts';
import { comparePlan } from './verify.ts';

/** Where Docker answers the containers of a network. */
const engineResolver = '127.0.0.11';
/** Before the engine's own redirection of the question. */
const raw = -300;

/** The engine's resolver, in every namespace that the bridges of a spec lead to. Remembers what it has done. Methods reject with a FenceError. */
export interface Resolvers {
  /** Closed for members, open for the proxy. Whoever is not found yet is looked for again at the next call. */
  settle(spec: FenceSpec): Promise<void>;
  /** Members for whom it is not closed, in words. */
  verify(spec: FenceSpec): Promise<readonly string[]>;
  /** Takes away what was closed for this table, wherever it is. */
  release(table: string): Promise<void>;
}

export function createResolvers(): Resolvers {
  const settled = new Map<string, boolean>();
  return {
    settle: async (spec) => {
      const places = await placesOf(spec);
      const now = new Set(places.map(({ key }) => key));
      for (const key of settled.keys()) if (!now.has(key)) settled.delete(key);
      const due = places.filter(({ key, isMember }) => settled.get(key) !== isMember);
      const name = await nameOf(spec.table);
      for (const { place, nft } of await reach(due)) {
        await (place.isMember ? close(nft, name) : open(nft, name)).catch(async (error: unknown) => {
          // A container that ended meanwhile took its port along.
          if ((await placesOf(spec)).some(({ key }) => key === place.key)) throw refused(place.port, error);
        });
        settled.set(place.key, place.isMember);
      }
    },
    verify: async (spec) => {
      const name = await nameOf(spec.table);
      const members = (await placesOf(spec)).filter(({ isMember }) => isMember);
      const found = await reach(members);
      const loose = await Promise.all(
        found.map(async ({ place, nft }) =>
          comparePlan(name, plan(name), await nft.list(name)).length === 0 ? [] : [place.port.name],
        ),
      );
      return [...new Set(loose.flat())].map(
        (port) => `the member at \`${port}\` can ask the engine's resolver`,
      );
    },
    release: async (table) => {
      const name = await nameOf(table);
      // Whatever cannot be entered any more has taken its tables along.
      for (const path of await namespaces()) await open(nftAt(path), name).catch(() => undefined);
    },
  };
}

/** One port of a fenced bridge. */
interface Place {
  readonly port: Port;
  /** Numbers of links are not used again. */
  readonly key: string;
  readonly isMember: boolean;
}

async function placesOf({ networks = [] }: FenceSpec): Promise<readonly Place[]> {
  const all = networks.map(async ({ interface: bridge, members }) =>
    (await portsOf(bridge)).map((port) => ({
      port,
      key: `${String(port.index)}-${String(port.peer)}-${String(port.namespace)}`,
      isMember: members.includes(port.name),
    })),
  );
  // Without a peer there is no namespace at the other end, but a machine: no engine of this host answers that.
  return (await Promise.all(all)).flat().filter(({ port }) => port.namespace !== undefined);
}

async function reach(
  places: readonly Place[],
): Promise<readonly { readonly place: Place; readonly nft: Nft }[]> {
  if (places.length === 0) return [];
  const owners = await ownersOf(places.map(({ port }) => port));
  return owners.flatMap(({ port, path }) => {
    const place = places.find((one) => one.port.name === port);
    return place === undefined ? [] : [{ place, nft: nftAt(path) }];
  });
}

function nftAt(path: string): Nft {
  return createNft({ enter: enter(path) });
}

/** Of this fence alone: another one, also of a machine inside this one, has another name. */
async function nameOf(table: string): Promise<string> {
  const own = await readlink('/proc/self/ns/net');
  return `sallyport_r${createHash('sha256').update(`${own} ${table}`).digest('hex').slice(0, 12)}`;
}

function plan(table: string): Transaction {
  const place = { family: 'inet', table } as const;
  return replaceTable('inet', table, [
    { counter: { ...place, name: 'drop_dns' } },
    { chain: { ...place, name: 'output', type: 'filter', hook: 'output', prio: raw, policy: 'accept' } },
    {
      rule: { ...place, chain: 'output', expr: [o.destination(engineResolver), o.count('dns'), o.drop] },
    },
  ]);
}

async function close(nft: Nft, name: string): Promise<void> {
  await nft.apply(plan(name));
  const differences = comparePlan(name, plan(name), await nft.list(name));
  if (differences.length > 0) throw new Error(differences.join('; '));
}

function refused({ name }: Port, cause: unknown): FenceError {
  const said = cause instanceof Error ? cause.message : String(cause);
  return new FenceError(
    'nft_failed',
    `the fence is in place, but the member at \`${name}\` may ask the engine's resolver: ${said}`,
    'take CAP_NET_ADMIN from the container, or give it the resolver 127.0.0.1; then apply again',
    { cause },
  );
}

async function open(nft: Nft, name: string): Promise<void> {
  if ((await nft.list(name)).length > 0) await nft.apply(removeTable('inet', name));
}
