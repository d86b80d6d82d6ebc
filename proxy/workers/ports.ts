// Opens every port once for each worker, in the parent: a client that waits at a port of a dead worker is served by the next one.
// Accepts nobody.
import { closeSync } from 'node:fs';
import type { ProxySettings } from '../config-types.ts';
import type { ConnAddon } from '../conn/index.ts';
import type { Port } from '../control-plane.ts';
import { type Endpoint, formatEndpoint, parseEndpoint } from '../endpoint.ts';
import { cannotListen, type Place, refuseWildcard } from '../server.ts';
import { checked } from './board.ts';

/** As in one process; the kernel has a bound of its own (somaxconn). */
const backlog = 4096;

export interface BoundPorts {
  readonly ports: readonly Port[];
  /** The places of one worker, each with its descriptor in this process. */
  placesOf(worker: number): readonly (Place & { readonly fd: number })[];
  close(): void;
}

/** All or none: throws Error with help when one cannot be had. */
export function bindPorts(
  addon: Pick<ConnAddon, 'bind' | 'portOf'>,
  places: readonly Place[],
  workers: number,
  settings: ProxySettings,
): BoundPorts {
  const open: number[] = [];
  const rows: { readonly port: Port; readonly place: Place; readonly fds: readonly number[] }[] = [];
  try {
    for (const place of places) {
      const endpoint = parseEndpoint(place.at);
      refuseWildcard(endpoint.address, place.at, settings);
      refuseTaken(addon, endpoint);
      const fds = bindShared(addon, endpoint, workers, open);
      const port = endpoint.port === 0 ? addon.portOf(fds[0] ?? -1) : endpoint.port;
      const at = formatEndpoint(endpoint.address, port);
      rows.push({
        port: { name: place.name, address: endpoint.address, port },
        place: { ...place, at },
        fds,
      });
    }
  } catch (error) {
    for (const fd of open) closeSync(fd);
    throw error;
  }
  return {
    ports: rows.map(({ port }) => port),
    placesOf: (worker) => rows.map(({ place, fds }) => ({ ...place, fd: fds[worker] ?? -1 })),
    close() {
      for (const fd of open.splice(0)) closeSync(fd);
    },
  };
}

/** SO_REUSEPORT would let us in beside another proxy of the same user, who would get half of the clients. */
function refuseTaken(addon: Pick<ConnAddon, 'bind' | 'portOf'>, endpoint: Endpoint): void {
  if (endpoint.port !== 0) closeSync(bind(addon, endpoint, endpoint.port, false));
}

function bindShared(
  addon: Pick<ConnAddon, 'bind' | 'portOf'>,
  endpoint: Endpoint,
  workers: number,
  open: number[],
): readonly number[] {
  const fds: number[] = [];
  for (let worker = 0; worker < workers; worker += 1) {
    const port = fds[0] === undefined ? endpoint.port : addon.portOf(fds[0]);
    const fd = bind(addon, endpoint, port, true);
    fds.push(fd);
    open.push(fd);
  }
  return fds;
}

function bind(
  addon: Pick<ConnAddon, 'bind' | 'portOf'>,
  endpoint: Endpoint,
  port: number,
  shares: boolean,
): number {
  try {
    return checked(addon.bind(endpoint.address, port, shares, backlog), 'listen');
  } catch (cause) {
    throw cannotListen(endpoint, cause);
  }
}
