// What a fence is to be, checked before anything is built from it. Unknown keys, odd spellings and duplicates are errors: what cannot be enforced is refused.
import { FenceError } from './errors.ts';
import type { DropLog } from './log-plan.ts';
import type { Prefix } from './objects.ts';
import {
  isWithin,
  parsePool,
  quote,
  readAddress,
  readFields,
  readLog,
  readPorts,
  readText,
  type Report,
} from './spec-fields.ts';

export interface Sandbox {
  /** Letters, digits, `_`, `-`, at most 32; only names a chain. */
  readonly name: string;
  /** The host's end of the sandbox's link, at most 15 characters. */
  readonly interface: string;
  /** The sandbox's own IPv4 address. */
  readonly address: string;
  /** The IPv4 address of the host on which the proxy listens for this sandbox. */
  readonly proxy: string;
  /** TCP ports of the proxy and of its service listeners; never empty. */
  readonly ports: readonly number[];
  /** UDP ports of the proxy's address, such as 53 for its DNS stub; absent: no UDP at all. */
  readonly datagrams?: readonly number[];
  /** Judge frames, too: what is neither IP nor ARP with the proxy. The link must be there first (before Linux 6.16). Default: false. */
  readonly frames?: boolean;
  /** Further addresses of the host, with the TCP ports of each: services whose port is taken at the proxy's address. */
  readonly services?: readonly ServiceAddress[];
}

/** One more address of the host that a sandbox may reach, on these TCP ports alone. */
export interface ServiceAddress {
  readonly address: string;
  readonly ports: readonly number[];
}

/** Where a network's proxy is: on this machine, behind one port of the bridge, or not to be found (then nobody gets anywhere). */
export type Door = 'host' | 'nowhere' | { readonly port: string };

/** A bridge with members that somebody else plugs in and out, such as the network of a container engine. */
export interface Network {
  /** As for a sandbox. */
  readonly name: string;
  /** The bridge. */
  readonly interface: string;
  /** CIDR of its members' addresses. */
  readonly subnet: string;
  /** The proxy's IPv4 address: one of this machine, or of a member. */
  readonly proxy: string;
  readonly ports: readonly number[];
  /** Links that are ports of the bridge now, but the proxy's. */
  readonly members: readonly string[];
  readonly door: Door;
}

export interface FenceSpec {
  /** `sallyport` or `sallyport_...`: a table of any other name is never touched. */
  readonly table: string;
  readonly sandboxes: readonly Sandbox[];
  readonly networks?: readonly Network[];
  /** CIDR that holds the address of every sandbox of this machine, for the class `lateral`. */
  readonly pool: string;
  /** Tell of drops, to be read by somebody. Default: they are counted alone. */
  readonly log?: DropLog;
}

const specKeys = ['table', 'sandboxes', 'networks', 'pool', 'log'];
const sandboxKeys = ['name', 'interface', 'address', 'proxy', 'ports', 'datagrams', 'frames', 'services'];
const networkKeys = ['name', 'interface', 'subnet', 'proxy', 'ports', 'members', 'door'];
const tableName = /^sallyport(_[a-zA-Z0-9_-]{1,48})?$/;
const sandboxName = /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}$/;
const interfaceName = /^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,14}$/;

/** The spec in `value`, or a FenceError `spec_invalid` that lists everything wrong with it. */
export function checkSpec(value: unknown): FenceSpec {
  const problems: string[] = [];
  const report: Report = (where, problem) => {
    problems.push(where === '' ? problem : `${where}: ${problem}`);
  };
  const spec = readSpec(value, report);
  if (spec !== undefined && problems.length === 0) checkTogether(spec, report);
  if (spec === undefined || problems.length > 0) throw invalid(problems);
  return spec;
}

/** The network that a checked CIDR names. */
export function asPrefix(cidr: string): Prefix {
  const [addr = '', len] = cidr.split('/');
  return { addr, len: Number(len) }; // INVARIANT: checkSpec has refused whatever is not a network
}

/** Every link that the fence is about: the sandboxes' and the bridges'. */
export function linksOf({ sandboxes, networks = [] }: FenceSpec): readonly string[] {
  return [...sandboxes, ...networks].map((one) => one.interface);
}

/** The name itself, or a FenceError: only our own tables may be named. */
export function checkTable(name: string): string {
  if (tableName.test(name)) return name;
  throw invalid([badTable(name)]);
}

function readSpec(value: unknown, report: Report): FenceSpec | undefined {
  const fields = readFields(value, specKeys, '', report);
  if (fields === undefined) return undefined;
  const nets = readList(fields['networks'] ?? [], 'networks', report);
  const list = readList(fields['sandboxes'] ?? (nets.length > 0 ? [] : undefined), 'sandboxes', report);
  if (Array.isArray(fields['sandboxes']) && list.length + nets.length === 0)
    report('sandboxes', 'is empty: a fence around nothing would look like one that holds');
  const table = readText(fields, 'table', '', report);
  if (!tableName.test(table)) report('table', badTable(table));
  const pool = readText(fields, 'pool', '', report);
  if (parsePool(pool) === undefined)
    report('pool', `${quote(pool)} is not an IPv4 network of /8 to /30 with no host bits`);
  const log = readLog(fields['log'], report);
  const sandboxes = list.map((one, i) => readSandbox(one, `sandboxes[${i}]`, report));
  const networks = nets.map((one, i) => readNetwork(one, `networks[${i}]`, report));
  return {
    table,
    pool,
    sandboxes: sandboxes.filter((one) => one !== undefined),
    ...(log === undefined ? {} : { log }),
    ...(networks.length === 0 ? {} : { networks: networks.filter((one) => one !== undefined) }),
  };
}

function readList(value: unknown, where: string, report: Report): readonly unknown[] {
  if (Array.isArray(value)) return value;
  report(where, 'is not a list');
  return [];
}

/** `members` and `door` are for whoever has looked at the bridge; without them nobody is plugged in. */
function readNetwork(value: unknown, where: string, report: Report): Network | undefined {
  const fields = readFields(value, networkKeys, where, report);
  if (fields === undefined) return undefined;
  const members = readList(fields['members'] ?? [], `${where}.members`, report).map(String);
  const network = {
    name: readText(fields, 'name', where, report),
    interface: readText(fields, 'interface', where, report),
    subnet: readText(fields, 'subnet', where, report),
    proxy: readAddress(fields, 'proxy', where, report),
    ports: readPorts(fields['ports'], `${where}.ports`, report),
    members,
    door: readDoor(fields['door'] ?? 'nowhere', `${where}.door`, report),
  };
  checkNames(network, where, report);
  for (const link of [...members, ...(typeof network.door === 'object' ? [network.door.port] : [])])
    if (!interfaceName.test(link)) report(`${where}.members`, `${quote(link)} is not the name of a link`);
  const subnet = parsePool(network.subnet);
  if (subnet === undefined)
    report(
      `${where}.subnet`,
      `${quote(network.subnet)} is not an IPv4 network of /8 to /30 with no host bits`,
    );
  else if (!isWithin(network.proxy, subnet))
    report(
      where,
      `${quote(network.subnet)} does not hold the proxy ${quote(network.proxy)}: members could not reach it`,
    );
  return network;
}

function readDoor(value: unknown, where: string, report: Report): Door {
  if (value === 'host' || value === 'nowhere') return value;
  const fields = readFields(value, ['port'], where, report) ?? {};
  return { port: readText(fields, 'port', where, report) };
}

function checkNames(
  { name, interface: link }: { readonly name: string; readonly interface: string },
  where: string,
  report: Report,
): void {
  if (!sandboxName.test(name))
    report(`${where}.name`, `${quote(name)} is not 1-32 letters, digits, \`_\` or \`-\``);
  if (link === 'lo') report(`${where}.interface`, '`lo` is the machine itself, not a sandbox');
  if (!interfaceName.test(link))
    report(`${where}.interface`, `${quote(link)} is not 1-15 letters, digits, \`_\`, \`.\` or \`-\``);
}

function readSandbox(value: unknown, where: string, report: Report): Sandbox | undefined {
  const fields = readFields(value, sandboxKeys, where, report);
  if (fields === undefined) return undefined;
  const { frames } = fields;
  if (frames !== undefined && typeof frames !== 'boolean') report(`${where}.frames`, 'is not true or false');
  const sandbox = {
    name: readText(fields, 'name', where, report),
    interface: readText(fields, 'interface', where, report),
    address: readAddress(fields, 'address', where, report),
    proxy: readAddress(fields, 'proxy', where, report),
    ports: readPorts(fields['ports'], `${where}.ports`, report),
    ...(fields['datagrams'] !== undefined && {
      datagrams: readPorts(fields['datagrams'], `${where}.datagrams`, report),
    }),
    ...(frames === true ? { frames } : {}),
    ...(fields['services'] !== undefined && {
      services: readServices(fields['services'], `${where}.services`, report),
    }),
  };
  checkNames(sandbox, where, report);
  if (sandbox.address === sandbox.proxy)
    report(where, `\`address\` and \`proxy\` are both ${quote(sandbox.proxy)}`);
  const known = [sandbox.address, sandbox.proxy];
  for (const { address } of sandbox.services ?? []) {
    if (known.includes(address)) report(`${where}.services`, `${quote(address)} is given twice`);
    known.push(address);
  }
  return sandbox;
}

function readServices(value: unknown, where: string, report: Report): readonly ServiceAddress[] {
  return readList(value, where, report).flatMap((one, i) => {
    const at = `${where}[${i}]`;
    const fields = readFields(one, ['address', 'ports'], at, report);
    if (fields === undefined) return [];
    const address = readAddress(fields, 'address', at, report);
    return [{ address, ports: readPorts(fields['ports'], `${at}.ports`, report) }];
  });
}

function checkTogether(spec: FenceSpec, report: Report): void {
  const all: readonly Partial<Sandbox>[] = [...spec.sandboxes, ...(spec.networks ?? [])];
  for (const key of ['name', 'interface', 'address'] as const) {
    const values = all.flatMap((one) => one[key] ?? []);
    for (const twice of values.filter((one, i) => values.indexOf(one) < i))
      report('sandboxes', `two have the ${key} ${quote(twice)}`);
  }
  const pool = parsePool(spec.pool);
  for (const { name, address } of spec.sandboxes)
    if (pool === undefined || !isWithin(address, pool))
      report('pool', `${quote(spec.pool)} does not hold ${quote(address)} of ${quote(name)}`);
}

function badTable(name: string): string {
  return `${quote(name)} is not a table of ours: \`sallyport\`, or \`sallyport_\` and up to 48 letters, digits, \`_\` or \`-\``;
}

function invalid(problems: readonly string[]): FenceError {
  return new FenceError(
    'spec_invalid',
    `the fence cannot be built: ${problems.join('; ')}`,
    'correct the spec; `sallyport fence plan --help` shows a whole one',
  );
}
