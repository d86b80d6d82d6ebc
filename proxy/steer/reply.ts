// One DNS message in, at most one out: rate, reading, answer, count and note. Knows no sockets.
import { parseAddress, type Address, type Decision, type Principal } from '../../policy/index.ts';
import { isWildcard } from '../config-network.ts';
import { formatEndpoint, parseEndpoint, type Endpoint } from '../endpoint.ts';
import { createLimits, endless } from '../limits.ts';
import { hostAlias, hostServiceName, serviceAddresses } from '../service-places.ts';
import type { Deps } from '../types.ts';
import { answerTo, type ServiceName, type Told } from './answer.ts';
import { readQuery, writeAnswer, type ReadQuery } from './message.ts';

/** Seconds a client may keep an answer: a name that is denied from now on is asked for again soon. */
const ttlS = 5;

/** What the answering needs of the proxy. */
export interface StubDeps extends Pick<Deps, 'settings' | 'network' | 'clock'> {
  readonly policyStore: Pick<Deps['policyStore'], 'current'>;
  readonly observers: Pick<Deps['observers'], 'answered' | 'named' | 'notAccepted' | 'bug'>;
}

/** Who asks, and where. Both ends come from the kernel. */
export interface Asking {
  readonly principal: Principal;
  readonly peer: Endpoint;
  readonly local: Endpoint;
}

/** The answer to one message; undefined when there is none. Never throws for anything a client sends. */
export type Reply = (message: Buffer, asking: Asking) => Buffer | undefined;

/** Answers for the stub at `own`. */
export function createReply(own: Address, deps: StubDeps): Reply {
  const { settings, policyStore, observers } = deps;
  const ports = portsAt(own, deps);
  const addressOf = serviceAddresses(settings);
  // A host port's services are one alias: they are at one address.
  const [hostPort] = settings.hostPorts;
  const serviceAt = (alias: string): ServiceName | undefined => {
    const name = alias === hostAlias && hostPort !== undefined ? hostServiceName(hostPort) : alias;
    const address = policyStore.current.services.has(name) ? addressOf(name) : null;
    if (address === null) return undefined;
    return { name, address: isWildcard(address) ? null : (parseAddress(address) ?? null) };
  };
  // Questions have the rate of clients, in an account of their own.
  const { connectionsPerSecond: maxConnectionsPerSecond, connectionBurst: burst } = settings;
  const rate = createLimits({ ...endless, maxConnectionsPerSecond, burst, now: () => performance.now() });
  const tell = (read: Exclude<ReadQuery, { kind: 'silent' }>, principal: Principal): Told => {
    const place = rate.acquire(principal.name);
    if (!place.ok) return { answer: 'limited', rcode: 'refused', ...plain };
    place.release();
    if (read.kind === 'bad') return { answer: read.rcode, rcode: read.rcode, ...plain };
    return answerTo(read.query, { policy: policyStore.current, principal, own, ports, serviceAt });
  };
  return (message, asking) => {
    const read = readQuery(message);
    if (read.kind === 'silent') {
      observers.answered('silent');
      return undefined;
    }
    const told = tell(read, asking.principal);
    observers.answered(told.answer);
    if (told.denied !== null) note(told.denied, asking, deps);
    return writeAnswer(read.query, { ...told, ttlS });
  };
}

const plain = { address: null, denied: null } as const;

/** Where transparent clients are taken at the same address. */
function portsAt(own: Address, { settings }: StubDeps): readonly number[] {
  return settings.transparent
    .map(parseEndpoint)
    .filter(({ address }) => address === own.text)
    .map(({ port }) => port);
}

/** On record, at a bounded rate: a name can be asked for without ever being reached, and asking is what carries data. */
function note({ host, reason, rule, policy, detail }: Decision, asking: Asking, deps: StubDeps): void {
  const { principal, peer, local } = asking;
  deps.observers.named({
    event: 'name',
    time: new Date(deps.clock()).toISOString(),
    run: deps.settings.run,
    principal: principal.name,
    peer: formatEndpoint(peer.address, peer.port),
    listener: formatEndpoint(local.address, local.port),
    host,
    verdict: 'deny',
    reason,
    rule: rule?.id ?? null,
    group: rule?.group ?? null,
    policy,
    detail,
  });
}
