// Asks the DNS once for the addresses of one name, within a time limit. No cache, no hosts file, no search domains.
import { Resolver as DnsResolver } from 'node:dns/promises';
import { parseAddress, type Address } from '../policy/index.ts';
import { ProxyError } from './errors.ts';

/** What the DNS said; `ttlMs` is the shortest of the records, or 0 when a family could not be asked. */
export interface DnsAnswer {
  readonly addresses: readonly Address[];
  readonly ttlMs: number;
}

export interface DnsQuery {
  /** `ip` or `ip:port`; empty means those of /etc/resolv.conf. */
  readonly servers: readonly string[];
  /** For both families together, retries included. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

interface DnsRecord {
  readonly address: string;
  readonly ttl: number;
}
type Family = PromiseSettledResult<readonly DnsRecord[]>;

// Three tries at 1, 2 and 4 quarters of the limit: one lost packet does not cost the whole of it.
const tries = 3;
// No honest name has more; each one would have to be judged and might be dialled.
const maxAddresses = 128;
const noData = new Set(['ENODATA', 'ENOTFOUND']);

/**
 * All addresses of `host`, IPv6 first. Both families are asked at once and both are awaited, because every answer must be judged.
 * A family that has no records is normal. A family that cannot be asked (SERVFAIL, time-out) is left out when the other
 * one answered (RFC 4074, RFC 8305 §3): this opens nothing, as only addresses that were judged are ever dialled.
 * @throws ProxyError dns_timeout, or dns_failed for everything else: no such name, no address, refused, cancelled
 */
export async function queryAddresses(host: string, query: DnsQuery): Promise<DnsAnswer> {
  // One resolver a look-up: its own sockets and ports, cancelled alone, and a changed /etc/resolv.conf is followed.
  const dns = createDns(query);
  let isLate = false;
  const cancel = (): void => dns.cancel();
  const clock = setTimeout(() => {
    isLate = true;
    cancel();
  }, query.timeoutMs);
  query.signal.addEventListener('abort', cancel);
  try {
    const six = dns.resolve6(host, { ttl: true });
    const families = await Promise.allSettled([six, dns.resolve4(host, { ttl: true })]);
    if (query.signal.aborted) throw failed(host, 'the look-up was cancelled');
    return answerOf(host, families, isLate);
  } finally {
    clearTimeout(clock);
    query.signal.removeEventListener('abort', cancel);
  }
}

/** Refuses servers that cannot be used, when there is still someone to tell. */
export function checkServers(servers: readonly string[]): void {
  try {
    new DnsResolver().setServers(servers);
  } catch (cause) {
    const shown = servers.map((server) => `\`${server}\``).join(', ');
    throw new Error(
      `resolver ${shown} is not an address\nhelp: give IP:PORT, as in 127.0.0.1:53 or [::1]:53`,
      {
        cause,
      },
    );
  }
}

function createDns({ servers, timeoutMs }: DnsQuery): DnsResolver {
  const dns = new DnsResolver({ timeout: Math.max(1, Math.floor(timeoutMs / 4)), tries });
  if (servers.length > 0) dns.setServers(servers);
  return dns;
}

function answerOf(host: string, families: readonly Family[], isLate: boolean): DnsAnswer {
  const records = families.flatMap((family) => (family.status === 'fulfilled' ? family.value : []));
  if (records.length === 0) throw noAnswer(host, families, isLate);
  const isWhole = families.every((family) => family.status === 'fulfilled' || noData.has(codeOf(family)));
  const ttlMs = isWhole ? Math.min(...records.map((record) => record.ttl)) * 1000 : 0;
  return { addresses: addressesOf(host, records), ttlMs };
}

function addressesOf(host: string, records: readonly DnsRecord[]): readonly Address[] {
  if (records.length > maxAddresses) throw failed(host, `more than ${maxAddresses} addresses`);
  const byText = new Map<string, Address>();
  for (const record of records) {
    const address = parseAddress(record.address);
    if (address === undefined) throw failed(host, `an answer that is not an address: \`${record.address}\``);
    byText.set(address.text, address);
  }
  return [...byText.values()];
}

function noAnswer(host: string, families: readonly Family[], isLate: boolean): ProxyError {
  const codes = families.map(codeOf);
  if (isLate || codes.includes('ETIMEOUT')) {
    return new ProxyError('dns_timeout', 'resolve', `no answer in time for \`${host}\``);
  }
  return failed(host, [...new Set(codes)].join(', '));
}

/** The c-ares code of a family that failed; a family that answered with nothing has no data. */
function codeOf(family: Family): string {
  if (family.status === 'fulfilled') return 'ENODATA';
  const reason: unknown = family.reason;
  return reason instanceof Error && 'code' in reason ? String(reason.code) : 'EUNKNOWN';
}

function failed(host: string, why: string): ProxyError {
  return new ProxyError('dns_failed', 'resolve', `no address for \`${host}\`: ${why}`);
}
