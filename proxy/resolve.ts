// Turns a judged name into addresses: hosts file, cache, then the DNS. Judges nothing, and is never asked for a denied name.
import type { Address } from '../policy/index.ts';
import { createTtlCache, type TtlCache } from './dns-cache.ts';
import { checkServers, queryAddresses, type DnsAnswer } from './dns-query.ts';
import { ProxyError } from './errors.ts';
import { createHostsFile, type HostsFile } from './hosts-file.ts';

export interface Resolver {
  /**
   * Every address of `host`, at least one.
   * @throws ProxyError dns_failed | dns_timeout, stage `resolve`; also when `signal` aborts (dns_failed)
   */
  resolve(host: string, signal?: AbortSignal): Promise<readonly Address[]>;
  /** Cancels what is under way; later look-ups fail. */
  close(): void;
}

export interface ResolverOptions {
  /** `ip:port`; empty means the servers of /etc/resolv.conf, whose search domains are never used. */
  readonly servers: readonly string[];
  /** Answers first when it lists the name; null means none. */
  readonly hostsFile: string | null;
  /** For one look-up, both families and retries together. */
  readonly timeoutMs: number;
  /** Bounds on how long an answer is kept, whatever its TTL says. */
  readonly maxTtlMs: number;
  readonly minTtlMs: number;
  /** How long a failure of any kind is kept, so that a retry loop does not become a query loop (RFC 2308, RFC 9520). */
  readonly negativeTtlMs: number;
  /** Names in the cache, failures included. */
  readonly maxEntries: number;
  /** Milliseconds; default performance.now. */
  readonly now?: () => number;
}

/** One outcome of a look-up, good or bad, as the cache keeps it. */
type Outcome = { readonly addresses: readonly Address[] } | { readonly error: ProxyError };

/** A look-up under way, shared by all who wait for the same name; when nobody waits any more it is cancelled. */
interface Flight {
  readonly outcome: Promise<Outcome>;
  readonly cancel: AbortController;
  waiting: number;
}

interface State {
  readonly options: ResolverOptions;
  readonly hosts: HostsFile | null;
  readonly cache: TtlCache<Outcome>;
  readonly flights: Map<string, Flight>;
  isClosed: boolean;
}

/** @throws Error when a server is not an address */
export function createResolver(options: ResolverOptions): Resolver {
  checkServers(options.servers);
  const state: State = {
    options,
    hosts: options.hostsFile === null ? null : createHostsFile(options.hostsFile),
    cache: createTtlCache(options.maxEntries, options.now ?? (() => performance.now())),
    flights: new Map(),
    isClosed: false,
  };
  return {
    resolve: async (host, signal) => await resolve(state, host, signal),
    close() {
      state.isClosed = true;
      for (const flight of state.flights.values()) flight.cancel.abort();
    },
  };
}

async function resolve(state: State, host: string, signal?: AbortSignal): Promise<readonly Address[]> {
  const listed = lookInHosts(state, host);
  if (listed.length > 0) return listed;
  if (state.isClosed || signal?.aborted === true) throw cancelled(host);
  const outcome = state.cache.get(host) ?? (await join(flightFor(state, host), host, signal));
  if ('error' in outcome) throw outcome.error;
  return outcome.addresses;
}

function lookInHosts({ hosts }: State, host: string): readonly Address[] {
  try {
    return hosts?.lookup(host) ?? [];
  } catch (cause) {
    throw new ProxyError('dns_failed', 'resolve', 'the hosts file cannot be read', { cause });
  }
}

function flightFor(state: State, host: string): Flight {
  const known = state.flights.get(host);
  if (known !== undefined) return known;
  const cancel = new AbortController();
  const flight: Flight = { outcome: fly(state, host, cancel.signal), cancel, waiting: 0 };
  state.flights.set(host, flight);
  const land = (): void => void (state.flights.get(host) === flight && state.flights.delete(host));
  cancel.signal.addEventListener('abort', land);
  void flight.outcome.finally(land);
  return flight;
}

/** Never rejects: the outcome is for many, and some may have left. */
async function fly({ options, cache }: State, host: string, signal: AbortSignal): Promise<Outcome> {
  try {
    const answer = await queryAddresses(host, { ...options, signal });
    cache.set(host, answer, keepMs(answer, options));
    return answer;
  } catch (error) {
    const outcome = { error: asProxyError(host, error) };
    if (!signal.aborted) cache.set(host, outcome, options.negativeTtlMs);
    return outcome;
  }
}

function keepMs({ ttlMs }: DnsAnswer, { minTtlMs, maxTtlMs }: ResolverOptions): number {
  return Math.min(Math.max(ttlMs, minTtlMs), maxTtlMs);
}

function asProxyError(host: string, error: unknown): ProxyError {
  if (error instanceof ProxyError) return error;
  return new ProxyError('dns_failed', 'resolve', `no address for \`${host}\``, { cause: error });
}

/** Waits for a shared look-up, or for this caller's own signal. */
async function join(flight: Flight, host: string, signal?: AbortSignal): Promise<Outcome> {
  const { promise: left, reject } = Promise.withResolvers<never>();
  const leave = (): void => reject(cancelled(host));
  signal?.addEventListener('abort', leave);
  flight.waiting += 1;
  try {
    return await Promise.race([flight.outcome, left]);
  } finally {
    signal?.removeEventListener('abort', leave);
    flight.waiting -= 1;
    if (flight.waiting === 0) flight.cancel.abort();
  }
}

function cancelled(host: string): ProxyError {
  return new ProxyError('dns_failed', 'resolve', `no address for \`${host}\`: the look-up was cancelled`);
}
