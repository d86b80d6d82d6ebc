// Readers for the settings that name addresses: where to listen, who comes from where, what is served. Opens nothing.
import { parseAddress, parseRange, parseServiceFlag, type RunService } from '../policy/index.ts';
import { BadValue, fields, type Reader, scalar, stringOf } from './config-readers.ts';
import type { PrincipalBinding, ServiceAddress } from './config-types.ts';

/** An IP address, as the policy spells it. */
export const address = scalar('ADDR', (given) => {
  const parsed = parseAddress(given);
  if (parsed === undefined)
    throw new BadValue(`\`${given}\` is not an IP address`, 'give one such as 127.0.0.1 or ::1');
  return parsed.text;
});

/** `ADDR:PORT` or `[ADDR]:PORT`. Port 0 lets the kernel choose. */
export const endpoint = scalar('ADDR:PORT', (given) => {
  const { host, port } = splitEndpoint(given);
  const parsed = parseAddress(host);
  if (parsed === undefined || port > 65_535) {
    throw new BadValue(
      `\`${given}\` is not an address with a port`,
      'give one such as 127.0.0.1:3128 or [::1]:3128',
    );
  }
  return parsed.family === 6 ? `[${parsed.text}]:${port}` : `${parsed.text}:${port}`;
});

/** The two halves of `ADDR:PORT`, brackets taken off. Port is 65536 when it cannot be read. */
export function splitEndpoint(given: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(0|[1-9][0-9]{0,4})$/u.exec(given);
  return { host: match?.[1] ?? match?.[2] ?? '', port: match === null ? 65_536 : Number(match[3]) };
}

const principalHelp = 'give NAME=CIDR or NAME=CIDR@ADDR:PORT, such as web=10.0.3.0/24@10.0.3.1:3128';

/** `NAME=CIDR[@ADDR:PORT]`; JSON also takes `{ "name", "source", "listen" }`. */
export const principal: Reader<PrincipalBinding> = {
  ...scalar('NAME=CIDR[@ADDR:PORT]', readPrincipal, showPrincipal),
  json: (value) => readPrincipal(typeof value === 'string' ? value : showPrincipal(principalFields(value))),
};

function readPrincipal(given: string): PrincipalBinding {
  const match = /^([a-zA-Z0-9][a-zA-Z0-9._-]{0,62})=([^@]+)(?:@(.+))?$/u.exec(given);
  const [, name, source, listen] = match ?? [];
  if (name === undefined || source === undefined)
    throw new BadValue(`\`${given}\` is not a principal`, principalHelp);
  return { name, source: rangeText(source), listen: listen === undefined ? null : endpoint.text([listen]) };
}

function rangeText(source: string): string {
  const read = parseRange(source);
  if ('problem' in read) throw new BadValue(`\`${source}\` is not a source: ${read.problem}`, principalHelp);
  return read.text;
}

function showPrincipal({ name, source, listen }: PrincipalBinding): string {
  return `${name}=${source}${listen === null ? '' : `@${listen}`}`;
}

function principalFields(value: unknown): PrincipalBinding {
  const { name, source, listen = null } = fields(value, ['name', 'source', 'listen']);
  if (typeof name !== 'string' || typeof source !== 'string')
    throw new BadValue('this is not a principal', principalHelp);
  return { name, source, listen: listen === null ? null : stringOf(listen) };
}

/** `ALIAS=HOST:PORT[@CIDR]`, by the policy's own reader. */
export const service: Reader<RunService> = scalar('ALIAS=HOST:PORT[@CIDR]', readService, showService);

function readService(given: string): RunService {
  try {
    return parseServiceFlag(given);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const [message = '', help = 'give one such as db=db.corp.example:5432'] = error.message.split('\nhelp: ');
    throw new BadValue(message, help);
  }
}

function showService({ name, host, port, addresses }: RunService): string {
  const pins = addresses === undefined ? '' : `@${addresses.join(',')}`;
  return `${name}=${host.includes(':') ? `[${host}]` : host}:${port}${pins}`;
}

/** `ALIAS=ADDR`; JSON also takes `{ "name", "address" }`. */
export const serviceAddress: Reader<ServiceAddress> = {
  ...scalar('ALIAS=ADDR', readServiceAddress, showServiceAddress),
  json: (value) =>
    readServiceAddress(typeof value === 'string' ? value : showServiceAddress(serviceAddressFields(value))),
};

function readServiceAddress(given: string): ServiceAddress {
  const [, name, at = ''] = /^([a-z0-9][a-z0-9-]{0,62})=(.+)$/u.exec(given) ?? [];
  if (name !== undefined) return { name, address: address.text([at]) };
  throw new BadValue(`\`${given}\` does not say where a service is served`, 'give one such as db=127.0.0.3');
}

function showServiceAddress({ name, address: at }: ServiceAddress): string {
  return `${name}=${at}`;
}

function serviceAddressFields(value: unknown): ServiceAddress {
  const { name, address: at } = fields(value, ['name', 'address']);
  return { name: stringOf(name), address: stringOf(at) };
}

/** True for `0.0.0.0`, `::` and the mapped spelling of the former: every address of the machine. */
export function isWildcard(endpointOrAddress: string): boolean {
  const host = splitEndpoint(endpointOrAddress).host || endpointOrAddress;
  const bytes = parseAddress(host)?.bytes ?? new Uint8Array([1]);
  const isMapped = bytes.length === 16 && bytes[10] === 0xff && bytes[11] === 0xff;
  return bytes.every((byte, index) => byte === 0 || (isMapped && (index === 10 || index === 11)));
}
