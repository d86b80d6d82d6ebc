// The network of one run: a namespace and a point-to-point veth, made with `ip`. No default route, no resolver, no IPv6. Knows no rules.
import { readFile, stat, writeFile } from 'node:fs/promises';
import { tool, ToolError } from './exec.ts';
import type { RunNames } from './names.ts';
import { RunRefused } from './refusal.ts';
import type { Resource } from './resource.ts';
import type { Slot } from './slot.ts';

/** A namespace that exists; its identity tells its processes apart. */
export interface SandboxNetns extends Resource {
  /** As `net:[4026531840]`. */
  readonly identity: string;
}

/** Makes the namespace: its loopback is up, IPv6 is off for every link it will get. */
export async function createNetns(names: RunNames): Promise<SandboxNetns> {
  await addNetns(names);
  const netns = { name: `network namespace ${names.netns}`, release: async () => await deleteNetns(names) };
  try {
    await inside(names, ['sh', '-c', ipv6Off]);
    await tool('ip', ['-n', names.netns, 'link', 'set', 'lo', 'up']);
    return { ...netns, identity: `net:[${(await stat(names.netnsPath)).ino}]` };
  } catch (error) {
    await netns.release();
    throw error;
  }
}

/** Names of namespaces are one list for the whole machine, whatever state directory a run has. */
async function addNetns({ netns }: RunNames): Promise<void> {
  try {
    await tool('ip', ['netns', 'add', netns]);
  } catch (error) {
    if (!(error instanceof ToolError && error.detail.includes('File exists'))) throw error;
    const help = `choose another --name; if no run has it any more: ip netns del ${netns}`;
    throw new RunRefused('usage', `network namespace \`${netns}\` is already there`, help, { cause: error });
  }
}

/** Runs a tool of the host inside the namespace. Not for the command: it has the host's files and the runner's rights. */
export async function inside(names: RunNames, argv: readonly string[]): Promise<string> {
  return await tool('nsenter', [`--net=${names.netnsPath}`, '--', ...argv]);
}

/** `all` does not reach links that exist, nor `default` those to come: each is written. A kernel without IPv6 has no such files. */
const ipv6Off =
  'for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e "$f" ] || echo 1 > "$f" || exit 1; done';

/** Turns IPv6 of the link on or off, on both its ends; used by the launch gate to prove the fence against it. */
export async function setLinkIpv6(names: RunNames, on: boolean): Promise<void> {
  const value = on ? '0' : '1';
  const file = `/proc/sys/net/ipv6/conf/${names.peer}/disable_ipv6`;
  await inside(names, ['sh', '-c', 'echo "$1" > "$2"', 'sh', value, file]);
  await setHostIpv6(names.link, value);
}

/** True when IPv6 is off on both ends (or not in this kernel). */
export async function isIpv6Off(names: RunNames): Promise<boolean> {
  const read = 'cat /proc/sys/net/ipv6/conf/*/disable_ipv6 2>/dev/null || :';
  const flags = await inside(names, ['sh', '-c', read]);
  const host = await readFile(hostIpv6File(names.link), 'utf8').catch(() => '1');
  return [...flags.split('\n'), host.trim()].every((flag) => flag === '' || flag === '1');
}

/** True when this kernel has IPv6. */
export async function hasIpv6(): Promise<boolean> {
  return await stat('/proc/sys/net/ipv6').then(
    () => true,
    () => false,
  );
}

function hostIpv6File(link: string): string {
  return `/proc/sys/net/ipv6/conf/${link}/disable_ipv6`;
}

async function setHostIpv6(link: string, value: string): Promise<void> {
  if (await hasIpv6()) await writeFile(hostIpv6File(link), value);
}

/**
 * Makes the veth pair with both ends DOWN and addressed. No packet can pass until `raiseLink`, so rules can be loaded
 * first. Addresses are there before the link is up, so the proxy can bind. `services` are those of the slot that are in use.
 */
export async function createLink(
  names: RunNames,
  slot: Slot,
  services: readonly string[] = [],
): Promise<Resource> {
  const { link, peer, netns } = names;
  await tool('ip', ['link', 'add', link, 'type', 'veth', 'peer', 'name', peer, 'netns', netns]);
  const resource = { name: `link ${link}`, release: async () => await deleteLink(names) };
  try {
    // No link-local address on either end, even while the launch gate has IPv6 on.
    if (await hasIpv6()) {
      await tool('ip', ['link', 'set', link, 'addrgenmode', 'none']);
      await tool('ip', ['-n', netns, 'link', 'set', peer, 'addrgenmode', 'none']);
    }
    await setHostIpv6(link, '1');
    // A second wall, for the moment between the loss of the rules and their return: this machine routes nothing that comes in here.
    await writeFile(`/proc/sys/net/ipv4/conf/${link}/forwarding`, '0');
    for (const address of [slot.proxy, ...services])
      await tool('ip', ['addr', 'add', `${address}/${slot.prefixLength}`, 'dev', link]);
    await tool('ip', ['-n', netns, 'addr', 'add', `${slot.sandbox}/${slot.prefixLength}`, 'dev', peer]);
    return resource;
  } catch (error) {
    await resource.release();
    throw error;
  }
}

/** The last resort of routing: every other route to the same network is better. */
const worstMetric = '4294967295';

/**
 * While the link is down, this machine's only route to the sandbox would be its default one, and what the proxy still has to say to a client
 * would leave by that. Now there is one that leads nowhere.
 */
export async function keepAnswersHome({ network }: Slot): Promise<Resource> {
  await tool('ip', ['route', 'replace', 'blackhole', network, 'metric', worstMetric]);
  return { name: `route to ${network}`, release: async () => await forgetAnswers(network) };
}

/** Takes that route away. No error when it is gone. */
export async function forgetAnswers(network: string): Promise<void> {
  await unlessGone(tool('ip', ['route', 'del', 'blackhole', network, 'metric', worstMetric]));
}

/** Brings the link up; it goes down first when it is given back, before any rule is removed. */
export async function raiseLink(names: RunNames): Promise<Resource> {
  await tool('ip', ['link', 'set', names.link, 'up']);
  await tool('ip', ['-n', names.netns, 'link', 'set', names.peer, 'up']);
  return { name: `link ${names.link} up`, release: async () => await lowerLink(names) };
}

/** Takes the host end down. No error when it is gone. */
export async function lowerLink(names: RunNames): Promise<void> {
  await unlessGone(tool('ip', ['link', 'set', names.link, 'down']));
}

/** True when both ends are up. False also when the link is gone. */
export async function isLinkUp({ link, netns, peer }: RunNames): Promise<boolean> {
  const ends = [
    tool('ip', ['-o', 'link', 'show', link]),
    tool('ip', ['-n', netns, '-o', 'link', 'show', peer]),
  ];
  const [host, inner] = await Promise.all(ends.map(async (said) => await said.catch(() => '')));
  return [host, inner].every((line) => / state UP /.test(line ?? ''));
}

/** Deletes the pair. No error when it is gone. */
export async function deleteLink(names: RunNames): Promise<void> {
  await unlessGone(tool('ip', ['link', 'del', names.link]));
}

/** Deletes the name of the namespace. No error when it is gone; also clears a name left without its mount. */
export async function deleteNetns(names: RunNames): Promise<void> {
  await unlessGone(tool('ip', ['netns', 'del', names.netns]));
}

async function unlessGone(work: Promise<string>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (
      !(error instanceof ToolError && /Cannot find device|No such (file|device|process)/.test(error.detail))
    )
      throw error;
  }
}

/** The routes of the sandbox in both families, one a line. */
export async function listRoutes(names: RunNames): Promise<readonly string[]> {
  const four = await tool('ip', ['-n', names.netns, '-4', 'route', 'show', 'table', 'main']);
  const six = await tool('ip', ['-n', names.netns, '-6', 'route', 'show', 'table', 'main']).catch(() => '');
  return [...four.split('\n'), ...six.split('\n')].map((line) => line.trim()).filter((line) => line !== '');
}
