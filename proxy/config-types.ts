// What a proxy can be told, as types. Defaults, flags and meanings are in config-table.ts.
import type { RunService } from '../policy/index.ts';

export type Enforcement = 'fence' | 'env' | 'sidecar';

/** Who carries bytes; `auto` takes the native relay where it was built. */
export type RelayChoice = 'auto' | 'splice' | 'javascript';

/** A declared client: who comes from `source` to `listen` is `name`. */
export interface PrincipalBinding {
  readonly name: string;
  /** CIDR of the client's source address. */
  readonly source: string;
  /** `address:port` of the listener; null is any of ours. */
  readonly listen: string | null;
}

/** Where one service is served, whatever `serviceListen` says. */
export interface ServiceAddress {
  readonly name: string;
  readonly address: string;
}

/** The proxy that ours goes out through. */
export interface ParentProxy {
  /** Canonical name or address text. */
  readonly host: string;
  readonly port: number;
  /** `user:password`, for the parent alone. */
  readonly credentials: string | null;
}

/** Everything a proxy can be told. Each is explained by its row in config-table.ts. Milliseconds and bytes throughout. */
export interface ProxySettings {
  readonly policy: string;
  readonly listen: readonly string[];
  readonly allowWildcard: boolean;
  /** Empty: loopback listeners serve the principal `local`, others know nobody. */
  readonly principals: readonly PrincipalBinding[];
  readonly services: readonly RunService[];
  /** Ports of this machine's loopback; each is one of `services`, too, called `host-N`. */
  readonly hostPorts: readonly number[];
  readonly serviceListen: string | null;
  /** Services that have an address of their own. */
  readonly serviceAt: readonly ServiceAddress[];
  /** Where clients that know no proxy come, with TLS or plain HTTP. */
  readonly transparent: readonly string[];
  /** Where names are answered with the address itself, over UDP and TCP. */
  readonly dnsListen: readonly string[];
  /** `ip:port`; empty means the servers of /etc/resolv.conf. */
  readonly resolver: readonly string[];
  readonly hosts: string | null;
  readonly parent: ParentProxy | null;
  readonly parentResolvesNames: boolean;
  /** A file, or `-` for stdout. */
  readonly audit: string;
  readonly metrics: string | null;
  readonly admin: string | null;
  readonly run: string | null;
  /** `uid:gid` to become after binding. */
  readonly user: string | null;
  readonly readyFd: number | null;
  readonly hints: boolean;
  readonly enforcement: Enforcement;
  readonly relay: RelayChoice;
  /** Processes that carry clients; 1 is this one alone. */
  readonly workers: number | 'auto';
  readonly headBytes: number;
  readonly headTimeoutMs: number;
  readonly helloBytes: number;
  readonly helloTimeoutMs: number;
  readonly maxTunnels: number;
  readonly maxTunnelsPerPrincipal: number;
  readonly connectionsPerSecond: number;
  readonly connectionBurst: number;
  readonly idleTimeoutMs: number;
  readonly dialTimeoutMs: number;
  readonly attemptTimeoutMs: number;
  readonly dnsTimeoutMs: number;
  readonly drainTimeoutMs: number;
}
