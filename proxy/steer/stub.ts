// The DNS stub of a sandbox: answers over UDP and TCP at one address with that very address. It knows no other server and asks nobody, so
// no question of the sandbox goes anywhere, whatever its name, its type or its timing says.
import { createSocket, type Socket as Datagrams } from 'node:dgram';
import { once } from 'node:events';
import { parseAddress } from '../../policy/index.ts';
import type { Conn, OpenListener } from '../conn/index.ts';
import { parseEndpoint, type Endpoint } from '../endpoint.ts';
import { createLimits, endless } from '../limits.ts';
import type { PrincipalOf } from '../principal.ts';
import { createReply, type Reply, type StubDeps } from './reply.ts';
import { serveStream } from './stream.ts';

/** Connections at once; each is a handful of small messages. */
const maxStreams = { maxTunnels: 1024, maxTunnelsPerPrincipal: 32 } as const;

export interface OpenStub extends Endpoint {
  /** Ends connections, too. */
  close(): void;
}

interface Stub {
  readonly deps: StubDeps;
  readonly principalOf: PrincipalOf;
  readonly reply: Reply;
}

/** Opens the stub at `at`, `address:port`. Throws Error with the system's code when the address cannot be had. */
export async function openStub(at: string, principalOf: PrincipalOf, deps: StubDeps): Promise<OpenStub> {
  const { address, port } = parseEndpoint(at);
  const own = parseAddress(address);
  if (own === undefined) throw new Error(`bug: \`${at}\` has no address`);
  const stub = { deps, principalOf, reply: createReply(own, deps) };
  const ending = new AbortController();
  const streams = await openStreams({ address, port }, stub, ending.signal);
  const local = { address, port: streams.port };
  try {
    const datagrams = await openDatagrams(local);
    hear(datagrams, local, stub);
    const close = (): void => {
      ending.abort();
      streams.close();
      datagrams.close();
    };
    return { ...local, close };
  } catch (error) {
    streams.close();
    throw error;
  }
}

async function openDatagrams({ address, port }: Endpoint): Promise<Datagrams> {
  const type = address.includes(':') ? 'udp6' : 'udp4';
  const socket = createSocket({ type, ipv6Only: type === 'udp6', lookup: asItIs });
  // Before bind(), which may be done at once.
  const listening = once(socket, 'listening');
  try {
    socket.bind({ address, port, exclusive: true });
    await listening;
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** Node would ask the resolver for the address of a peer, although it is one. */
function asItIs(
  host: string,
  _options: unknown,
  done: (error: NodeJS.ErrnoException | null, address: string, family: number) => void,
): void {
  done(null, host, host.includes(':') ? 6 : 4);
}

function hear(socket: Datagrams, local: Endpoint, { deps, principalOf, reply }: Stub): void {
  socket.on('error', (error) => deps.observers.notAccepted(error));
  socket.on('message', (message, { address, port }) => {
    const peer = { address, port };
    const principal = principalOf(local, peer);
    // A source can be made up here: who is not known gets no answer, which could be aimed at somebody.
    // Port 0 is nobody's: send() would throw, here where that would be the end of the process.
    if (principal === undefined || port === 0) return deps.observers.answered('silent');
    try {
      const said = reply(message, { principal, peer, local });
      if (said !== undefined) socket.send(said, port, address, ignore);
    } catch (error) {
      deps.observers.bug(error, 'head');
    }
  });
}

/** An answer that cannot be sent is lost, as any datagram may be. */
function ignore(): void {}

async function openStreams(
  at: Endpoint,
  { deps, principalOf, reply }: Stub,
  signal: AbortSignal,
): Promise<OpenListener> {
  const places = createLimits({ ...endless, ...maxStreams, now: () => performance.now() });
  const accepted = (conn: Conn): void => {
    const { local, peer } = conn;
    const principal = principalOf(local, peer);
    const place = principal === undefined ? undefined : places.acquire(principal.name);
    if (principal === undefined || place?.ok !== true) {
      conn.reset();
      return;
    }
    const answer = (message: Buffer): Buffer | undefined => reply(message, { principal, peer, local });
    const served = serveStream(conn, { answer, signal, timeoutMs: deps.settings.headTimeoutMs });
    void served.catch((error: unknown) => deps.observers.bug(error, 'head')).finally(() => place.release());
  };
  const failed = (error: Error): void => deps.observers.notAccepted(error);
  return await deps.network.listen(at, { accepted, failed });
}
