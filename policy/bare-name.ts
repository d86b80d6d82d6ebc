// What is asked for by a name that comes without a port: the server name of a hello, the name of a DNS question. Judges no name.
import type { ServerNameFact } from './decision.ts';
import { printable } from './printable.ts';
import { parseTarget, type Target, type UnnamedReason } from './target.ts';

/** `name` on `port`. A colon is refused, although an authority may have one: the port is not the client's to say here. */
export function targetOfName(name: string, port: number): Target {
  if (!name.includes(':')) return parseTarget(name, port);
  return {
    kind: 'malformed',
    shown: printable(name).slice(0, 80),
    problem: 'there is a colon in the name',
    help: 'give a host name alone',
  };
}

/** What a connection asks for whose first bytes are its request: the server name, on the port that it came to. */
export function targetOfHello(fact: ServerNameFact, port: number): Target {
  if (fact.kind === 'server_name') return targetOfName(fact.name, port);
  const [reason, problem, help] = unnamed(fact);
  return { kind: 'malformed', shown: '', problem, help, reason };
}

function unnamed(
  fact: Exclude<ServerNameFact, { kind: 'server_name' }>,
): readonly [UnnamedReason, problem: string, help: string] {
  switch (fact.kind) {
    case 'no_server_name':
      return fact.ech
        ? ['ech_refused', 'the name is in an encrypted ClientHello', 'switch encrypted ClientHello off']
        : ['server_name_missing', 'the ClientHello has no server name', 'ask for the host by its name'];
    case 'not_tls':
      return ['not_tls', 'the first bytes are not TLS', 'use TLS here; the proxy port takes CONNECT'];
    case 'malformed':
      return ['hello_malformed', printable(fact.problem), 'send one whole ClientHello'];
    case 'timeout':
      return ['hello_timeout', 'no whole ClientHello came in time', 'send it at once'];
    case 'closed':
      return ['hello_malformed', 'the client closed before its ClientHello was whole', 'send it whole'];
    default:
      return fact satisfies never;
  }
}
