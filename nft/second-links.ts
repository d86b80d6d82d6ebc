// Finds members of a fenced network that have a link besides the one into it: what leaves by that passes no rule of ours. Tells; changes nothing.
import { portsOf } from './bridge.ts';
import { enter, ipJson, ownersOf } from './namespaces.ts';
import type { FenceSpec } from './spec.ts';

/** In words, one for each such link that is up. The proxy is none of the `members`. Rejects with a FenceError. */
export async function secondLinks({ networks = [] }: FenceSpec): Promise<readonly string[]> {
  const all = networks.map(async ({ interface: bridge, members }) => {
    const ports = (await portsOf(bridge)).filter(({ name }) => members.includes(name));
    const owners = ports.length === 0 ? [] : await ownersOf(ports);
    return await Promise.all(
      owners.map(async ({ port, path, link }) =>
        (await linksUp(path))
          .filter(({ ifindex, ifname }) => ifname !== 'lo' && ifindex !== link['ifindex'])
          .map(
            ({ ifname }) =>
              `the member at \`${port}\` has another link, \`${ifname}\`, which no fence is around`,
          ),
      ),
    );
  });
  return [...new Set((await Promise.all(all)).flat(2))];
}

/** A namespace that ended meanwhile has no links. */
async function linksUp(path: string): Promise<readonly { ifname: string; ifindex: unknown }[]> {
  const links = await ipJson(['-j', 'link', 'show', 'up'], { enter: enter(path) }).catch(() => []);
  // ip leaves `{}` in the place of a link that it does not show.
  return links.flatMap(({ ifname, ifindex }) => (typeof ifname === 'string' ? [{ ifname, ifindex }] : []));
}
