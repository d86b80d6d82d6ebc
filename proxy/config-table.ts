// Every setting, its default and its meaning, once: flags, environment, file, help and docs/config.md are made from this.
import { address, endpoint, principal, service, serviceAddress } from './config-network.ts';
import { parent } from './config-parent.ts';
import { list, numberOr, oneOf, orNone, path, type Reader, text, toggle, whole } from './config-readers.ts';
import type { Enforcement, ProxySettings, RelayChoice } from './config-types.ts';

/** What can be told: the settings, before they are judged as a whole. */
export interface Told extends Omit<ProxySettings, 'policy'> {
  readonly policy: string | null;
}

export interface Setting<Value> {
  /** Without the dashes. */
  readonly flag: string;
  readonly env: string;
  readonly read: Reader<Value>;
  readonly fallback: Value;
  readonly unit?: 'ms' | 'bytes' | 'per s';
  readonly doc: string;
  /** Shown as the reader shows it only, in JSON too. */
  readonly isSecret?: boolean;
}

type SettingTable = { readonly [Key in keyof Told]: Setting<Told[Key]> };

const enforcements: readonly Enforcement[] = ['fence', 'env', 'sidecar'];
const relays: readonly RelayChoice[] = ['auto', 'splice', 'javascript'];
const day = 86_400_000;
const runName = text(
  'NAME',
  /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$/u,
  'give up to 63 letters, digits, dots, dashes',
);
const ids = text(
  'UID:GID',
  /^[1-9][0-9]{0,8}:[1-9][0-9]{0,8}$/u,
  'give two numbers above 0, such as 65534:65534',
);

export const settingTable: SettingTable = {
  policy: setting('policy', orNone(path), null, 'the policy, .json or .nix; `{}` denies everything'),
  listen: setting('listen', list(endpoint), ['127.0.0.1:3128'], 'where clients connect'),
  allowWildcard: setting(
    'allow-wildcard-bind',
    toggle,
    false,
    'permit 0.0.0.0 and :: as addresses to listen on: every network of the machine',
  ),
  principals: setting(
    'principal',
    list(principal),
    [],
    'a client by its source; without any, loopback is `local`',
  ),
  services: setting('service', list(service), [], 'a named opaque TCP service, besides those of the policy'),
  hostPorts: setting(
    'host-port',
    list(whole(1, 65_535)),
    [],
    'a loopback port of this machine as service host-N, under the name host.sallyport',
  ),
  serviceListen: setting(
    'service-listen',
    orNone(address),
    null,
    'address on which each service gets its own port',
  ),
  serviceAt: setting(
    'service-at',
    list(serviceAddress),
    [],
    'an address of its own for one service, such as a second one on the same port',
  ),
  transparent: setting(
    'transparent',
    list(endpoint),
    [],
    'where clients that know no proxy come, with TLS or plain HTTP; the server name or the `Host` is the request',
  ),
  dnsListen: setting(
    'dns-listen',
    list(endpoint),
    [],
    'where DNS is answered: an allowed name with this very address, every other with NXDOMAIN; nobody is asked',
  ),
  resolver: setting('resolver', list(endpoint), [], 'DNS server; none means those of /etc/resolv.conf'),
  hosts: setting('hosts', orNone(path), '/etc/hosts', 'hosts file, asked before DNS'),
  parent: {
    ...setting('parent', orNone(parent), null, 'proxy to go out through, by CONNECT'),
    isSecret: true,
  },
  parentResolvesNames: setting(
    'parent-resolves-names',
    toggle,
    false,
    'tell the parent names: it looks them up again, so the addresses that were judged are not the ones it dials',
  ),
  audit: setting(
    'audit',
    path,
    '-',
    'file for one JSON line per decision, close, denied name and drop; - is stdout',
  ),
  metrics: setting('metrics', orNone(endpoint), null, 'own socket for /metrics, /healthz, /readyz'),
  admin: setting('admin', orNone(path), null, 'unix socket for health, policy, tunnels, reload'),
  run: setting('run', orNone(runName), null, 'name of the run, for the audit and refusals'),
  user: setting('user', orNone(ids), null, 'become this user once all sockets are open (needs root)'),
  readyFd: setting(
    'ready-fd',
    orNone(whole(3, 1024)),
    null,
    'write `ready` to it when listening; its end ends the proxy',
  ),
  hints: setting(
    'hints',
    toggle,
    true,
    'help in a refusal: hint, similar name, rule, how to ask for more; without, it names nothing but what was asked for',
  ),
  enforcement: setting(
    'enforcement',
    oneOf(enforcements),
    'sidecar',
    'what keeps clients on this proxy, as shown in metrics',
  ),
  relay: setting('relay', oneOf(relays), 'auto', 'who carries bytes; auto is splice where it was built'),
  workers: setting(
    'workers',
    numberOr('auto', whole(1, 64)),
    1,
    'processes that carry clients; auto is one a core',
  ),
  headBytes: size('head-bytes', 16_384, 'longest request head'),
  headTimeoutMs: time('head-timeout-ms', 10_000, 'longest wait for a request head'),
  helloBytes: size('hello-bytes', 32_768, 'longest TLS client hello'),
  helloTimeoutMs: time('hello-timeout-ms', 10_000, 'longest wait for a TLS client hello'),
  maxTunnels: count('max-tunnels', 4096, 'tunnels open at once'),
  maxTunnelsPerPrincipal: count('max-tunnels-per-principal', 1024, 'tunnels open at once for one principal'),
  connectionsPerSecond: {
    ...count('connections-per-second', 500, 'new clients of one principal'),
    unit: 'per s',
  },
  connectionBurst: count('connection-burst', 1000, 'new clients of one principal at once'),
  idleTimeoutMs: time('idle-timeout-ms', 600_000, 'a tunnel without a byte either way ends after this'),
  dialTimeoutMs: time('dial-timeout-ms', 10_000, 'longest wait for any address of a host'),
  attemptTimeoutMs: time('attempt-timeout-ms', 3000, 'longest wait for one address of a host'),
  dnsTimeoutMs: time('dns-timeout-ms', 5000, 'longest wait for DNS'),
  drainTimeoutMs: time('drain-timeout-ms', 30_000, 'longest wait for open tunnels at the end'),
};

function setting<Value>(flag: string, read: Reader<Value>, fallback: Value, doc: string): Setting<Value> {
  return { flag, env: `SALLYPORT_${flag.toUpperCase().replaceAll('-', '_')}`, read, fallback, doc };
}

function time(flag: string, fallback: number, doc: string): Setting<number> {
  return { ...setting(flag, whole(1, day), fallback, doc), unit: 'ms' };
}

function size(flag: string, fallback: number, doc: string): Setting<number> {
  return { ...setting(flag, whole(1024, 1_048_576), fallback, doc), unit: 'bytes' };
}

function count(flag: string, fallback: number, doc: string): Setting<number> {
  return setting(flag, whole(1, 1_000_000), fallback, doc);
}

/** The settings by key, in the order of the table. */
export const settingKeys: readonly (keyof Told)[] = Object.keys(settingTable).filter(
  (key): key is keyof Told => key in settingTable,
);

/** As it is typed: `--listen`, or `--no-hints` for what is on by default. */
export function flagOf(key: keyof Told): string {
  const { flag, fallback } = settingTable[key];
  return fallback === true ? `--no-${flag}` : `--${flag}`;
}
