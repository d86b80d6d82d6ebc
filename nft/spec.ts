// What a fence is to be, checked before anything is built from it. Unknown keys, odd spellings and duplicates are errors: what cannot be enforced is refused.
import { isIPv4 } from 'node:net';
import { FenceError } from './errors.ts';
import type { Prefix } from './objects.ts';

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
}

export interface FenceSpec {
  /** `sallyport` or `sallyport_...`: a table of any other name is never touched. */
  readonly table: string;
  readonly sandboxes: readonly Sandbox[];
  /** CIDR that holds the address of every sandbox of this machine, for the class `lateral`. */
  readonly pool: string;
}

type Fields = Readonly<Record<string, unknown>>;
/** Collects every problem, so that one run names them all. */
type Report = (where: string, problem: string) => void;

const specKeys = ['table', 'sandboxes', 'pool'];
const sandboxKeys = ['name', 'interface', 'address', 'proxy', 'ports', 'datagrams'];
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

/** The name itself, or a FenceError: only our own tables may be named. */
export function checkTable(name: string): string {
  if (tableName.test(name)) return name;
  throw invalid([badTable(name)]);
}

/** An IPv4 network in strict spelling: no host bits, /8 to /30. */
function parsePool(text: string): Prefix | undefined {
  const [addr = '', length = '', ...rest] = text.split('/');
  const len = /^[1-9][0-9]?$/.test(length) ? Number(length) : 0;
  if (!isIPv4(addr) || rest.length > 0 || len < 8 || len > 30) return undefined;
  return addressNumber(addr) % 2 ** (32 - len) === 0 ? { addr, len } : undefined;
}

function readSpec(value: unknown, report: Report): FenceSpec | undefined {
  const fields = readFields(value, specKeys, '', report);
  if (fields === undefined) return undefined;
  const list = fields['sandboxes'];
  if (!Array.isArray(list)) report('sandboxes', 'is not a list');
  else if (list.length === 0)
    report('sandboxes', 'is empty: a fence around nothing would look like one that holds');
  const table = readText(fields, 'table', '', report);
  if (!tableName.test(table)) report('table', badTable(table));
  const pool = readText(fields, 'pool', '', report);
  if (parsePool(pool) === undefined)
    report('pool', `${quote(pool)} is not an IPv4 network of /8 to /30 with no host bits`);
  const sandboxes = (Array.isArray(list) ? list : []).map((one, i) =>
    readSandbox(one, `sandboxes[${i}]`, report),
  );
  return { table, pool, sandboxes: sandboxes.filter((one) => one !== undefined) };
}

function readSandbox(value: unknown, where: string, report: Report): Sandbox | undefined {
  const fields = readFields(value, sandboxKeys, where, report);
  if (fields === undefined) return undefined;
  const sandbox = {
    name: readText(fields, 'name', where, report),
    interface: readText(fields, 'interface', where, report),
    address: readAddress(fields, 'address', where, report),
    proxy: readAddress(fields, 'proxy', where, report),
    ports: readPorts(fields['ports'], `${where}.ports`, report),
    ...(fields['datagrams'] !== undefined && {
      datagrams: readPorts(fields['datagrams'], `${where}.datagrams`, report),
    }),
  };
  if (!sandboxName.test(sandbox.name))
    report(`${where}.name`, `${quote(sandbox.name)} is not 1-32 letters, digits, \`_\` or \`-\``);
  if (sandbox.interface === 'lo') report(`${where}.interface`, '`lo` is the machine itself, not a sandbox');
  if (!interfaceName.test(sandbox.interface))
    report(
      `${where}.interface`,
      `${quote(sandbox.interface)} is not 1-15 letters, digits, \`_\`, \`.\` or \`-\``,
    );
  if (sandbox.address === sandbox.proxy)
    report(where, `\`address\` and \`proxy\` are both ${quote(sandbox.proxy)}`);
  return sandbox;
}

function readFields(
  value: unknown,
  known: readonly string[],
  where: string,
  report: Report,
): Fields | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    report(where, 'is not an object');
    return undefined;
  }
  for (const key of Object.keys(value)) if (!known.includes(key)) report(where, `unknown key ${quote(key)}`);
  return Object.fromEntries(Object.entries(value));
}

function readText(fields: Fields, key: string, where: string, report: Report): string {
  const value = fields[key];
  if (typeof value === 'string') return value;
  report(where === '' ? key : `${where}.${key}`, 'is not a text');
  return '';
}

function readAddress(fields: Fields, key: string, where: string, report: Report): string {
  const text = readText(fields, key, where, report);
  if (!isUnicast(text))
    report(`${where}.${key}`, `${quote(text)} is not an IPv4 unicast address such as 10.219.0.2`);
  return text;
}

function readPorts(value: unknown, where: string, report: Report): readonly number[] {
  const ports: readonly unknown[] = Array.isArray(value) ? value : [];
  if (ports.length === 0) report(where, "holds no port: give the proxy's");
  const good = ports.filter(
    (port) => typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65536,
  );
  for (const port of ports)
    if (!good.some((one) => one === port))
      report(
        where,
        `${quote(port)} is not a port number: 1-65535${typeof port === 'string' ? ', not a text' : ''}`,
      );
  if (new Set(good).size < good.length) report(where, 'a port is given twice');
  return good.filter((port) => typeof port === 'number');
}

function checkTogether(spec: FenceSpec, report: Report): void {
  for (const key of ['name', 'interface', 'address'] as const) {
    const values = spec.sandboxes.map((one) => one[key]);
    for (const twice of values.filter((one, i) => values.indexOf(one) < i))
      report('sandboxes', `two have the ${key} ${quote(twice)}`);
  }
  const pool = parsePool(spec.pool);
  for (const { name, address } of spec.sandboxes)
    if (pool === undefined || !isWithin(address, pool))
      report('pool', `${quote(spec.pool)} does not hold ${quote(address)} of ${quote(name)}`);
}

function isUnicast(text: string): boolean {
  const first = isIPv4(text) ? Number(text.split('.')[0]) : 0;
  return first > 0 && first < 224 && first !== 127;
}

function isWithin(address: string, pool: Prefix): boolean {
  const size = 2 ** (32 - pool.len);
  return Math.floor(addressNumber(address) / size) === addressNumber(pool.addr) / size;
}

function addressNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

function badTable(name: string): string {
  return `${quote(name)} is not a table of ours: \`sallyport\`, or \`sallyport_\` and up to 48 letters, digits, \`_\` or \`-\``;
}

/** User input for a message: escaped, and cut at 60 characters. */
function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  const bare = typeof value === 'string' ? text.slice(1, -1) : text;
  return `\`${bare.length > 60 ? `${bare.slice(0, 60)}...` : bare}\``;
}

function invalid(problems: readonly string[]): FenceError {
  return new FenceError(
    'spec_invalid',
    `the fence cannot be built: ${problems.join('; ')}`,
    'correct the spec; `sallyport fence plan --help` shows a whole one',
  );
}
