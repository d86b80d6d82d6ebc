// Reads the values of the flags of `sallyport run`, each named in what is said of it. The proxy and the policy read theirs again, strictly.
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { printable } from './names.ts';
import { RunRefused } from './refusal.ts';

/** A port, 1 to 65535. Throws RunRefused (usage), as all of these do. */
export function readPort(flag: string, text: string): number {
  const port = portOf(text);
  if (port !== undefined) return port;
  throw usage(`${flag} \`${printable(text)}\` is not a port`, 'give 1 to 65535');
}

function portOf(text: string): number | undefined {
  const port = /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : undefined;
}

const maxTimeoutS = 31 * 24 * 3600;

/** Seconds, as milliseconds. */
export function readTimeout(text: string): number {
  const seconds = /^[0-9]{1,7}(\.[0-9]{1,3})?$/.test(text) ? Number(text) : 0;
  if (seconds > 0 && seconds <= maxTimeoutS) return Math.ceil(seconds * 1000);
  throw usage(
    `--timeout \`${printable(text)}\` is not a number of seconds`,
    `give more than 0 and at most ${maxTimeoutS}`,
  );
}

/** `ADDR:PORT` or `[ADDR]:PORT`, as given. */
export function readEndpoint(flag: string, text: string): string {
  const { host, port } = cutEndpoint(text);
  if (port !== undefined && isAddress(host)) return text;
  throw usage(
    `${flag} \`${printable(text)}\` is not an address with a port`,
    'give one such as 127.0.0.1:53 or [::1]:53; a name is not looked up',
  );
}

/** As `readEndpoint`, and one address of this machine: metrics on every address would be there for every sandbox, too. */
export function readListen(flag: string, text: string): string {
  const { host } = cutEndpoint(readEndpoint(flag, text));
  if (!/^\[?[0:.]+\]?$/.test(host)) return text;
  throw usage(
    `${flag} \`${printable(text)}\` is every address of this machine`,
    'give one of its addresses, such as 127.0.0.1:9464',
  );
}

function cutEndpoint(text: string): { host: string; port: number | undefined } {
  const at = text.lastIndexOf(':');
  return { host: text.slice(0, Math.max(0, at)), port: portOf(text.slice(at + 1)) };
}

function isAddress(host: string): boolean {
  return isIPv4(host) || (host.startsWith('[') && host.endsWith(']') && isIPv6(host.slice(1, -1)));
}

/** A service as far as the runner needs it. */
export interface ServicePort {
  readonly name: string;
  readonly port: number;
}

/** One `--service`. */
export interface ServiceFlag extends ServicePort {
  /** `alias=host:port`, perhaps with `@range,...`, as given. */
  readonly text: string;
}

/** One service from `alias=host:port`, or from `alias=host:port@address,...` for a host that resolves to private addresses. */
export function readService(text: string): ServiceFlag {
  const [, name, place = '', pins] =
    /^([a-z0-9][a-z0-9-]{0,62})=([^@]+)(?:@([0-9A-Fa-f.:/,]+))?$/.exec(text) ?? [];
  const { host, port } = cutEndpoint(place);
  if (name === undefined || port === undefined) throw serviceProblem(text, 'is not a service');
  if (!isAddress(host) && !isDomain(host))
    throw serviceProblem(text, 'has no domain of two labels or more, and no address, before its port');
  if (pins !== undefined && !pins.split(',').every(isRange))
    throw serviceProblem(text, 'has something else than addresses after its `@`');
  return { name, port, text };
}

function serviceProblem(text: string, problem: string): RunRefused {
  const forms =
    'db=db.corp.example:5432, or db=db.corp.example:5432@10.0.3.7 when the name has a private address';
  return usage(
    `--service \`${printable(text)}\` ${problem}`,
    `give one as alias=host:port, such as ${forms}`,
  );
}

function isDomain(host: string): boolean {
  const isNamed = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z](?:[a-z0-9-]*[a-z0-9])?$/i.test(host);
  return isNamed && host.length <= 253;
}

function isRange(text: string): boolean {
  const [address = '', length, ...rest] = text.split('/');
  return (
    isIP(address) !== 0 && rest.length === 0 && (length === undefined || /^[1-9][0-9]{0,2}$/.test(length))
  );
}

function usage(message: string, help: string): RunRefused {
  return new RunRefused('usage', message, help);
}
