// Lends the boundary, for the gate's time, the addresses, routes and links that its probes need, and takes them back. All of it is on the
// run's own link or on a pair of links that is made here; nothing leads to another link of this machine.
import { readFile, writeFile } from 'node:fs/promises';
import { tool } from '../exec.ts';
import { hasIpv6, setLinkIpv6 } from '../network.ts';
import type { Resource } from '../resource.ts';
import { gateNames, lentTo, type Place } from './place.ts';

/** Makes it all. Whatever was made is in `add` before the next thing is. */
export async function lend(place: Place, add: (resource: Resource) => Promise<void>): Promise<void> {
  const { names, slot } = place;
  const lent = lentTo(slot);
  const { near, far } = gateNames(names);
  const [nearMac, farMac] = [mac(slot.number, 1), mac(slot.number, 2)];
  const [hostMac, sandboxMac] = await macsOf(place);
  await add({ name: 'witness pair', release: async () => void (await tool('ip', ['link', 'del', near])) });
  await batch(place, [
    `link add ${near} address ${nearMac} type veth peer name ${far} address ${farMac}`,
    `link set ${near} addrgenmode none`,
    `link set ${far} addrgenmode none`,
    `link set ${near} up`,
    `link set ${far} up`,
    `route add ${lent.witness}/32 dev ${near}`,
    `neigh replace ${lent.witness} lladdr ${farMac} dev ${near}`,
    `route add ${lent.stranger}/32 dev ${far}`,
  ]);
  const own = { link: names.link, host: lent.host, onLink: lent.onLink };
  await add({ name: 'lent addresses', release: async () => await batch(place, takenBack(own)) });
  await batch(place, [
    `addr add ${own.host}/32 dev ${own.link}`,
    `route add ${own.onLink}/32 dev ${own.link}`,
    `neigh replace ${own.onLink} lladdr ${sandboxMac} dev ${own.link}`,
  ]);
  const routes = [lent.carrier, lent.routed].map((one) => `${one}/32 via ${slot.proxy}`);
  await add({
    name: 'lent routes',
    release: async () =>
      await batch(
        place,
        routes.map((one) => `route del ${one}`),
        names.netns,
      ),
  });
  await batch(
    place,
    routes.map((one) => `route replace ${one}`),
    names.netns,
  );
  for (const link of [names.link, far]) await forward(link, add);
  if (await hasIpv6()) await lendSix(place, { hostMac, sandboxMac }, add);
}

function takenBack({
  link,
  host,
  onLink,
}: Readonly<Record<'link' | 'host' | 'onLink', string>>): readonly string[] {
  return [
    `neigh del ${onLink} dev ${link}`,
    `route del ${onLink}/32 dev ${link}`,
    `addr del ${host}/32 dev ${link}`,
  ];
}

/** Addresses that look global, on both ends; neighbours are told, as the fence drops the question for them. */
async function lendSix(
  place: Place,
  { hostMac, sandboxMac }: Readonly<Record<'hostMac' | 'sandboxMac', string>>,
  add: (resource: Resource) => Promise<void>,
): Promise<void> {
  const { names, slot } = place;
  const { host, sandbox, carrier } = lentTo(slot).six;
  // Taken off with the addresses: turning IPv6 off deletes them with their routes and neighbours.
  await add({ name: 'lent IPv6', release: async () => await setLinkIpv6(names, false) });
  await setLinkIpv6(names, true);
  await batch(place, [
    `addr add ${host}/64 dev ${names.link} nodad`,
    `neigh replace ${sandbox} lladdr ${sandboxMac} dev ${names.link}`,
  ]);
  await batch(
    place,
    [
      `addr add ${sandbox}/64 dev ${names.peer} nodad`,
      `neigh replace ${host} lladdr ${hostMac} dev ${names.peer}`,
      `route add ${carrier}/128 via ${host} dev ${names.peer}`,
    ],
    names.netns,
  );
}

/** Lets this machine route what arrives there: so it is the fence that stops it, and not a router that is switched off. */
async function forward(link: string, add: (resource: Resource) => Promise<void>): Promise<void> {
  const file = `/proc/sys/net/ipv4/conf/${link}/forwarding`;
  const before = await readFile(file, 'utf8');
  await add({ name: `forwarding of ${link}`, release: async () => await writeFile(file, before) });
  await writeFile(file, '1');
}

/** Of the host's end and of the sandbox's. */
async function macsOf({ names }: Place): Promise<readonly [string, string]> {
  const [host, sandbox] = await Promise.all([
    tool('ip', ['-o', 'link', 'show', 'dev', names.link]),
    tool('ip', ['-n', names.netns, '-o', 'link', 'show', 'dev', names.peer]),
  ]);
  return [macIn(host), macIn(sandbox)];
}

function macIn(line: string): string {
  return / link\/ether ([0-9a-f:]{17}) /.exec(line)?.[1] ?? '';
}

/** A locally administered address. */
function mac(slot: number, end: number): string {
  return ['02:5a:11', ...[slot >> 8, slot & 255, end].map(hex)].join(':');
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}

async function batch({ directory }: Place, lines: readonly string[], netns?: string): Promise<void> {
  const file = `${directory}/gate-links-${netns === undefined ? 'host' : 'sandbox'}`;
  await writeFile(file, `${lines.join('\n')}\n`, { mode: 0o600 });
  await tool('ip', [...(netns === undefined ? [] : ['-n', netns]), '-batch', file]);
}
