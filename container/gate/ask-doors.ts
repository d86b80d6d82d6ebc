// The questions to the doors that need no variable: DNS over UDP and TCP, and the transparent ports. Brings back what was said; judges nothing.
import { setTimeout as delay } from 'node:timers/promises';
import { canaryOf, type Doorway } from './ask-proxy.ts';
import { questionFor, readAnswer, type Rcode, type types } from './dns-message.ts';
import type { ProbeAnswer, ProbeOrder } from './probe-child.ts';
import type { Prober } from './prober.ts';

/** One door tried once. */
export interface DoorSignal {
  readonly id: string;
  readonly what: string;
  /** What must be said; null: a refusal in HTTP that this run has signed. */
  readonly expected: string | null;
  /** Null: no name is allowed that could be asked for. */
  readonly said: string | null;
  readonly answer: ProbeAnswer | undefined;
}

const limitMs = 10_000;

/** Tries all of them at once; nothing when the wiring has none. */
export async function askDoors(prober: Prober, doorway: Doorway): Promise<readonly DoorSignal[]> {
  const dns = doorway.wired.dns.flatMap((port) => dnsQuestions(doorway, port));
  const ports = doorway.wired.transparent.map((port) => plainRequest(doorway, port));
  const [tlsPort] = doorway.wired.transparent;
  const hello = tlsPort === undefined ? [] : [tlsHello(doorway, tlsPort)];
  return await Promise.all([...dns, ...ports, ...hello].map(async (one) => await one(prober)));
}

type Ask = (prober: Prober) => Promise<DoorSignal>;

type Question = readonly [
  id: string,
  what: string,
  name: string | null,
  type: keyof typeof types,
  expected: Rcode | 'own',
];

/** Whoever asked on would be told something else of the root, of everything, and of the allowed name. */
function dnsQuestions(doorway: Doorway, port: number): readonly Ask[] {
  const { id, allowed, address, wired } = doorway;
  const canary = canaryOf(id);
  const name = allowed !== null && wired.transparent.includes(allowed.port) ? allowed.host : null;
  const rows: readonly Question[] = [
    ['allowed', 'DNS answers an allowed name with the proxy (control)', name, 'a', 'own'],
    ['allowed-text', 'DNS has no text of an allowed name', name, 'txt', 'noerror'],
    ['denied', 'DNS denies a name that no policy lists', canary, 'a', 'nxdomain'],
    ['denied-text', 'DNS has no text of a name that no policy lists', canary, 'txt', 'nxdomain'],
    ['root', 'DNS does not know the root', '', 'ns', 'refused'],
    ['any', 'DNS does not answer a question for everything', canary, 'any', 'refused'],
  ];
  return rows.flatMap(([key, what, asked, type, expected]) =>
    (['udp', 'tcp'] as const).map((protocol): Ask => async (prober) => {
      const head = {
        id: `dns-${key}-${protocol}`,
        what: `${what}, over ${protocol.toUpperCase()}`,
        expected: expected === 'own' ? `noerror ${address}` : expected,
      };
      if (asked === null) return { ...head, said: null, answer: undefined };
      const question = questionFor(asked, type);
      const message = question.toString('hex');
      const answer = await order(prober, { id: head.id, kind: `dns-${protocol}`, address, port, message });
      const said =
        answer?.outcome === 'replied' ? readAnswer(question, Buffer.from(answer.reply, 'hex')) : '';
      return { ...head, said, answer };
    }),
  );
}

function plainRequest({ id, address }: Doorway, port: number): Ask {
  const host = canaryOf(id);
  const target = port === 80 ? host : `${host}:${port}`;
  const what = `a name that no policy lists is refused at port ${port} without the proxy being named`;
  return async (prober) => {
    const answer = await order(prober, { id: `transparent-${port}`, kind: 'http', address, port, target });
    return { id: `transparent-${port}`, what, expected: null, said: '', answer };
  };
}

/** What OpenSSL says of the alert (RFC 8446 §6.2: access_denied). */
const accessDenied = 'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED';

function tlsHello({ id, address }: Doorway, port: number): Ask {
  const target = canaryOf(id);
  const what = `a server name that no policy lists is refused at port ${port}`;
  return async (prober) => {
    const answer = await order(prober, { id: 'transparent-tls', kind: 'tls', address, port, target });
    const said = answer?.outcome === 'error' ? answer.error : '';
    return { id: 'transparent-tls', what, expected: accessDenied, said, answer };
  };
}

async function order(prober: Prober, what: ProbeOrder): Promise<ProbeAnswer | undefined> {
  const { promise, resolve } = Promise.withResolvers<ProbeAnswer>();
  prober.order(what, resolve);
  return await Promise.race([promise, delay(limitMs, undefined, { ref: false })]);
}
