// Finds what is at the other end of a link: the network namespaces of this machine and the links in them, as the kernel tells. Changes nothing.
import { readdir, readlink } from 'node:fs/promises';
import { isFields, type Fields } from './json.ts';
import { runIp, runTool } from './link.ts';

/** One port of a bridge and the link at its other end: its number there, and the kernel's number for the namespace that it is in. */
export interface Port {
  readonly name: string;
  readonly index: unknown;
  readonly peer: unknown;
  readonly namespace: unknown;
}

/** The other end of a port: the link, and a path of the namespace that it is in. */
export interface Owner {
  readonly port: string;
  readonly path: string;
  readonly link: Fields;
}

/** What is at the other end of `ports`. A namespace with two paths comes twice. */
export async function ownersOf(ports: readonly Port[]): Promise<readonly Owner[]> {
  const wanted = new Set(ports.map(({ namespace }) => namespace));
  const found: Owner[] = [];
  for (const { id, path } of await numbered())
    for (const link of wanted.has(id) ? await linksIn(path) : []) {
      const port = ports.find(
        ({ namespace, index, peer }) =>
          namespace === id && link['link_index'] === index && link['ifindex'] === peer,
      );
      if (port !== undefined) found.push({ port: port.name, path, link });
    }
  return found;
}

/**
 * The namespaces to which this one has numbers: numbers of links alone would also fit those of other machines in this one, such as an engine without root
 * has. Those of processes, and those with a name.
 */
async function numbered(): Promise<readonly { readonly id: unknown; readonly path: string }[]> {
  const { namespaces: all } = object(await runTool(['lsns', '-J', '-t', 'net', '-o', 'PID,NETNSID']));
  const named = await ipJson(['-j', 'netns', 'list-id']);
  return [
    ...(Array.isArray(all) ? all.filter(isFields) : [])
      .filter(({ netnsid }) => /^[0-9]+$/.test(String(netnsid)))
      .map(({ pid, netnsid }) => ({ id: Number(netnsid), path: `/proc/${String(pid)}/ns/net` })),
    ...named
      .filter(({ name }) => typeof name === 'string')
      .map(({ nsid, name }) => ({ id: nsid, path: `/run/netns/${String(name)}` })),
  ];
}

/** A path of every other network namespace: those of processes, and those that engines keep by name. */
export async function namespaces(): Promise<readonly string[]> {
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

/** Words that run what follows in the namespace at `path`. */
export function enter(path: string): readonly string[] {
  return ['nsenter', `--net=${path}`, '--'];
}

/** What `ip -j ARGS` prints, by default here. Rejects with a FenceError. */
export async function ipJson(
  args: readonly string[],
  options: Parameters<typeof runIp>[1] = {},
): Promise<readonly Fields[]> {
  return parse(await runIp(args, options));
}

/** A namespace that ended meanwhile has no links. */
async function linksIn(path: string): Promise<readonly Fields[]> {
  return parse(await runIp(['-j', '-4', 'addr', 'show'], { enter: enter(path) }).catch(() => ''));
}

async function list(folder: string): Promise<readonly string[]> {
  return await readdir(folder).catch(() => []);
}

function object(text: string): Fields {
  const value: unknown = JSON.parse(text);
  return isFields(value) ? value : {};
}

function parse(text: string): readonly Fields[] {
  const value: unknown = JSON.parse(text.trim() === '' ? '[]' : text);
  return Array.isArray(value) ? value.filter(isFields) : [];
}
