// What the stub says to one question: the policy decides, a table does the rest. Asks nobody and opens nothing: an allowed name leads to the
// address that was asked, where the transparent listeners judge the connection itself.
import {
  decide,
  targetOf,
  targetOfName,
  type Decision,
  type Policy,
  type Principal,
} from '../../policy/index.ts';
import type { Address } from '../../policy/index.ts';
import type { Query, Rcode } from './message.ts';

/** How a query ended: the `answer` label. `silent` got no answer, `limited` one before it was read. */
export const dnsAnswers = [
  'address',
  'empty',
  'nxdomain',
  'refused',
  'formerr',
  'notimp',
  'badvers',
  'limited',
  'silent',
] as const;

export type DnsAnswer = (typeof dnsAnswers)[number];

export interface Told {
  readonly answer: DnsAnswer;
  readonly rcode: Rcode;
  readonly address: Uint8Array | null;
  /** The verdict on a name that is not answered; null when the name was no matter. */
  readonly denied: Decision | null;
}

/** What a stub knows besides the question. */
export interface StubFacts {
  readonly policy: Policy;
  readonly principal: Principal;
  /** The address it is asked at. */
  readonly own: Address;
  /** Ports on which that address takes transparent clients: a name is answered when one of them may be had. */
  readonly ports: readonly number[];
  /** Where the service of an alias is, and its name; undefined for what is no alias. */
  readonly serviceAt: (alias: string) => ServiceName | undefined;
}

/** A service that has an alias. */
export interface ServiceName {
  readonly name: string;
  /** Null is the address that is asked. */
  readonly address: Address | null;
}

const internet = 1;
const [typeA, typeAaaa, opt, firstMeta, lastMeta] = [1, 28, 41, 128, 255] as const;

/** The first row that holds is the answer. */
export function answerTo(query: Query, facts: StubFacts): Told {
  const rows: readonly (readonly [holds: boolean, DnsAnswer & Rcode])[] = [
    // RFC 6891 §6.1.3: a version that is not known.
    [query.edns !== null && query.edns !== 0, 'badvers'],
    // Another class is another world (CHAOS tells versions).
    [query.class !== internet, 'refused'],
    // Questions for everything and for whole zones (RFC 6895 §3.1: QTYPEs and Meta-TYPEs, ANY among them).
    [
      query.type === opt || query.type === 0 || (query.type >= firstMeta && query.type <= lastMeta),
      'refused',
    ],
    [query.name === '', 'refused'],
  ];
  const [, answer] = rows.find(([holds]) => holds) ?? [];
  return answer === undefined ? named(query, facts) : { answer, rcode: answer, ...nothing };
}

const nothing = { address: null, denied: null } as const;

function named(query: Query, facts: StubFacts): Told {
  const service = facts.serviceAt(query.name.toLowerCase());
  const decision = judge(query.name, service, facts);
  if (decision.verdict === 'deny')
    return { answer: 'nxdomain', rcode: 'nxdomain', address: null, denied: decision };
  const address = service?.address ?? facts.own;
  // No other type has data, HTTPS and SVCB (RFC 9460) among them: no keys for an encrypted ClientHello, no other port, no other address.
  const wanted = address.family === 4 ? typeA : typeAaaa;
  return query.type === wanted
    ? { answer: 'address', rcode: 'noerror', address: address.bytes, denied: null }
    : { answer: 'empty', rcode: 'noerror', ...nothing };
}

/** As a service of that alias, else as what a transparent client may ask for on one of the ports, by its hello or by its Host. */
function judge(
  name: string,
  found: ServiceName | undefined,
  { policy, principal, ports }: StubFacts,
): Decision {
  const service = policy.services.get(found?.name ?? '');
  if (service !== undefined) {
    const alias = { mode: 'service', service: service.name } as const;
    return decide(policy, { principal, target: targetOf(service), ...alias });
  }
  const asked = ports.flatMap((port) =>
    (['transparent', 'http'] as const).map((mode) => ({ principal, target: targetOfName(name, port), mode })),
  );
  const decisions = asked.map((request) => decide(policy, request));
  // INVARIANT: a stub has at least one port. A name that is denied is denied for the same reason on most of them.
  const [first] = decisions;
  if (first === undefined) throw new Error('bug: a DNS stub without a port');
  return decisions.find(({ verdict }) => verdict === 'allow') ?? first;
}
