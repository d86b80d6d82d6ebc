// Reads the fields of a spec, one kind each, in strict spelling. Says what is wrong and goes on; what belongs together is spec.ts's.
import { isIPv4 } from 'node:net';
import type { DropLog } from './log-plan.ts';
import type { Prefix } from './objects.ts';

export type Fields = Readonly<Record<string, unknown>>;

/** Collects every problem, so that one run names them all. */
export type Report = (where: string, problem: string) => void;

/** An IPv4 network in strict spelling: no host bits, /8 to /30. */
export function parsePool(text: string): Prefix | undefined {
  const [addr = '', length = '', ...rest] = text.split('/');
  const len = /^[1-9][0-9]?$/.test(length) ? Number(length) : 0;
  if (!isIPv4(addr) || rest.length > 0 || len < 8 || len > 30) return undefined;
  return addressNumber(addr) % 2 ** (32 - len) === 0 ? { addr, len } : undefined;
}

export function readFields(
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

export function readText(fields: Fields, key: string, where: string, report: Report): string {
  const value = fields[key];
  if (typeof value === 'string') return value;
  report(where === '' ? key : `${where}.${key}`, 'is not a text');
  return '';
}

export function readAddress(fields: Fields, key: string, where: string, report: Report): string {
  const text = readText(fields, key, where, report);
  if (!isUnicast(text))
    report(`${where}.${key}`, `${quote(text)} is not an IPv4 unicast address such as 10.219.0.2`);
  return text;
}

export function readPorts(value: unknown, where: string, report: Report): readonly number[] {
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

/** Undefined when there is none. `perSecond` is 10 unless it is given. */
export function readLog(value: unknown, report: Report): DropLog | undefined {
  if (value === undefined) return undefined;
  const { group, perSecond = 10 } = readFields(value, ['group', 'perSecond'], 'log', report) ?? {};
  const inRange = (key: string, number: unknown, most: number): number => {
    if (typeof number === 'number' && Number.isInteger(number) && number > 0 && number <= most) return number;
    report(`log.${key}`, `${quote(number)} is not a number from 1 to ${most}`);
    return 1;
  };
  return { group: inRange('group', group, 65_535), perSecond: inRange('perSecond', perSecond, 1000) };
}

function isUnicast(text: string): boolean {
  const first = isIPv4(text) ? Number(text.split('.')[0]) : 0;
  return first > 0 && first < 224 && first !== 127;
}

export function isWithin(address: string, pool: Prefix): boolean {
  const size = 2 ** (32 - pool.len);
  return Math.floor(addressNumber(address) / size) === addressNumber(pool.addr) / size;
}

function addressNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** User input for a message: escaped, and cut at 60 characters. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  const bare = typeof value === 'string' ? text.slice(1, -1) : text;
  return `\`${bare.length > 60 ? `${bare.slice(0, 60)}...` : bare}\``;
}
