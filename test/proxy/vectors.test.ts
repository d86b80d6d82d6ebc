// The vectors in cases/ and in test/policy/cases/, at every door of a live proxy and in `policy check`: what a case says, what decide() says and
// what a door does are one answer, with one reason, on record and to the client. A case is data; a door is a row of test/helpers/doors.ts.
import { execFile } from 'node:child_process';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { confirm, decide, grant, parsePolicy, parseTarget } from '../../policy/index.ts';
import type { Address, Decision, EgressRequest, Mode, Policy, ServerNameFact } from '../../policy/index.ts';
import { checkReport } from '../../policy/report.ts';
import type { DecisionEvent } from '../../proxy/observe/index.ts';
import { addressOf } from '../helpers/address.ts';
import { askAt, doors, ownLoopback, transparentPorts, typedTarget, whyNot } from '../helpers/doors.ts';
import type { Asked, LiveDoor, TypedTarget } from '../helpers/doors.ts';
import { askUdp, buildQuery } from '../helpers/dns-client.ts';
import { buildHello, type HelloShape } from '../helpers/hello.ts';
import { startOrigin, type Origin } from '../helpers/origin.ts';
import { publicAddress, startTestProxy, type TestProxy } from '../helpers/proxy.ts';

/** The format of test/policy/cases, and two keys more. */
interface Case {
  readonly name: string;
  readonly target: string;
  readonly principal?: null;
  readonly service?: string;
  readonly addresses?: readonly string[];
  readonly own?: readonly string[];
  readonly hello?: ServerNameFact;
  readonly verdict: string;
  readonly reason: string;
  /** The answer to plain HTTP, where it is another: a rule is for one protocol. */
  readonly http?: string;
  /** What a door is sent in place of its usual words: lines of a head, a hello, or the hex of frames. */
  readonly says?: Readonly<Record<string, readonly string[] | HelloShape | string>>;
}

interface Corpus {
  readonly policy: { readonly services?: readonly { name: string; host: string; port: number }[] };
  readonly cases: readonly Case[];
}

const root = join(import.meta.dirname, '../..');
const own = globSync('test/proxy/cases/*.json', { cwd: root }).toSorted();
/** Without services.json: its ports need a right to listen. Its cases stand in ours, on others. */
const policys = globSync('test/policy/cases/*.json', { cwd: root, exclude: ['**/services.json'] }).toSorted();
const read = (file: string): Corpus => JSON.parse(readFileSync(join(root, file), 'utf8')) as Corpus;

/** What the doors are sent behind a case, and what they have no way to say of it. */
interface Way {
  readonly door: LiveDoor;
  readonly address: string;
  readonly port: number;
}

interface World {
  readonly proxy: TestProxy;
  readonly policy: Policy;
  readonly origin: Origin;
  /** Where the doors are that are not the proxy port. */
  readonly beside: string;
  readonly events: Map<string, readonly DecisionEvent[]>;
  /** The case that the resolver and the machine's own addresses belong to. */
  now: Case;
}

async function startWorld(t: Test, corpus: Corpus, isOwn: boolean): Promise<World> {
  const [beside, events] = [ownLoopback(), new Map<string, readonly DecisionEvent[]>()];
  // Each answers in its own way to whoever has come so far.
  const origin = await startOrigin(t, (socket) => {
    socket.once('data', (bytes: Buffer) => {
      socket.end(/^[A-Z]+ \//u.test(bytes.toString('latin1')) ? httpAnswer : 'origin');
    });
  });
  const world = { now: corpus.cases[0] ?? nobody };
  const proxy = await startTestProxy(t, {
    policy: corpus.policy,
    origin: origin.port,
    answers: () => world.now.addresses ?? [publicAddress],
    deps: { ownAddresses: () => (world.now.own ?? []).map(addressOf) },
    settings: {
      transparent: transparentPorts.map((port) => `${beside}:${port}`),
      dnsListen: [`${beside}:0`],
      serviceListen: isOwn ? beside : null,
    },
    onDecided(event) {
      const who = `${event.peer} ${event.listener}`;
      events.set(who, [...(events.get(who) ?? []), event]);
    },
  });
  return Object.assign(world, { proxy, origin, beside, events, policy: proxy.deps.policyStore.current });
}

const httpAnswer = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\norigin';
const nobody: Case = { name: '', target: '', verdict: '', reason: '' };

/** The last gate's answer to a case, and whether the first two let it through. */
function judge(policy: Policy, c: Case, mode: Mode): { final: Decision; isGranted: boolean } {
  const request: EgressRequest = {
    principal: { name: 'local' },
    target: parseTarget(c.target),
    mode,
    ...(c.service === undefined ? {} : { service: c.service }),
  };
  const named = decide(policy, request);
  const answers: readonly Address[] = (c.addresses ?? [publicAddress]).map(addressOf);
  const given = grant(policy, request, named, answers, (c.own ?? []).map(addressOf));
  if ('verdict' in given) return { final: given, isGranted: false };
  const isTls = mode !== 'http' && mode !== 'service';
  return { final: isTls ? confirm(given, factOf(c)) : named, isGranted: true };
}

/** Unless a case says otherwise its client means what it says. */
function factOf(c: Case): ServerNameFact {
  const target = parseTarget(c.target);
  return (
    c.hello ?? { kind: 'server_name', name: target.kind === 'name' ? target.host : 'none.test', ech: false }
  );
}

function helloBytes(fact: ServerNameFact): Buffer {
  if (fact.kind === 'server_name') return buildHello({ serverName: fact.name, ech: fact.ech });
  if (fact.kind === 'no_server_name') return buildHello({ ech: fact.ech });
  if (fact.kind === 'malformed') return buildHello({ serverNames: ['good.a.test', 'evil.test'] });
  return Buffer.from('SSH-2.0-none\r\n');
}

/** Cases that no live client can be, whatever the door. */
const notLive: readonly (readonly [why: string, isSo: (c: Case) => boolean])[] = [
  ['a client of nobody is in principal.test.ts', (c) => c.principal === null],
  [
    'who says nothing or leaves is in gates.test.ts',
    ({ hello }) => hello?.kind === 'timeout' || hello?.kind === 'closed',
  ],
  [
    'a server name with odd bytes, or of none, makes a hello that is none: client-hello.test.ts',
    ({ hello }) => hello?.kind === 'server_name' && !/^[\u0021-\u007e]+$/u.test(hello.name),
  ],
  [
    'a target without a port has one on the command line only',
    (c) => c.target !== '' && typedTarget(c.target).port === undefined,
  ],
];

/** A hello that is the request: what else it cannot say. */
const notAsHello: readonly (readonly [why: string, isSo: (c: Case) => boolean])[] = [
  [
    'the server name is what is asked for, so there is no other one beside it',
    (c) => c.hello?.kind === 'server_name' && !isNameOf(c.hello.name, c.target),
  ],
];

/** Who comes to the door of a service asks for it, and nobody else does. */
const notAtServices: readonly (readonly [why: string, isSo: (c: Case) => boolean])[] = [
  [
    'a service is asked for by its port alone: there is no host to say',
    ({ service }) => service === undefined,
  ],
];

function isNameOf(name: string, target: string): boolean {
  const [a, b] = [parseTarget(`${name}:1`), parseTarget(target)];
  return a.kind === 'name' && b.kind === 'name' && a.host === b.host;
}

function waysFor(c: Case, typed: TypedTarget, { proxy, beside }: World): readonly Way[] {
  if (notLive.some(([, isSo]) => isSo(c))) return [];
  if (!notAtServices.some(([, isSo]) => isSo(c))) {
    // One that does not exist has no door.
    const of = proxy.ports.filter(({ name }) => name === c.service);
    return of.map(({ port }) => ({ door: serviceDoor, address: beside, port }));
  }
  const able = doors.filter(
    (door) =>
      whyNot(door, typed) === undefined &&
      !(door.mode === 'transparent' && notAsHello.some(([, isSo]) => isSo(c))),
  );
  const besidePort = transparentPorts.includes(Number(typed.port)) ? Number(typed.port) : transparentPorts[0];
  return able.map((door) =>
    door.at === 'proxy'
      ? { door, address: '127.0.0.1', port: proxy.port }
      : { door, address: beside, port: besidePort ?? 0 },
  );
}

/** Its clients say nothing of where they want to go, and are told nothing. */
const serviceDoor: LiveDoor = {
  name: 'service',
  mode: 'service',
  at: 'transparent',
  cannot: [],
  says: () => Buffer.from('ping'),
  told: (answer) => (answer.length > 0 ? 'allow' : 'deny'),
};

function bytesFor(c: Case, typed: TypedTarget, door: LiveDoor): Buffer {
  const { name, mode } = door;
  const said = c.says?.[name];
  const usual = mode === 'transparent' && c.hello !== undefined ? helloBytes(c.hello) : undefined;
  const first = said === undefined ? (usual ?? door.says(typed)) : literal(said);
  return mode === 'connect' || mode === 'socks5' ? Buffer.concat([first, helloBytes(factOf(c))]) : first;
}

function literal(said: readonly string[] | HelloShape | string): Buffer {
  if (typeof said === 'string') return Buffer.from(said.replaceAll(' ', ''), 'hex');
  return isLines(said) ? Buffer.from(`${said.join('\r\n')}\r\n\r\n`) : buildHello(said);
}

function isLines(said: readonly string[] | HelloShape): said is readonly string[] {
  return Array.isArray(said);
}

/** One client at one door, and all that can be known of it. */
interface Seen {
  readonly way: Way;
  readonly asked: Asked;
  readonly events: readonly DecisionEvent[];
  readonly expected: ReturnType<typeof judge>;
  readonly reachedOrigin: boolean;
}

async function see(c: Case, way: Way, world: World): Promise<Seen> {
  const before = world.origin.received().length;
  const asked = await askAt(way.address, way.port, bytesFor(c, typedTarget(c.target), way.door));
  const reachedOrigin = world.origin.received().length > before;
  // Who was reset at once never knew its own port; it is the only one there is.
  const [who = ''] = asked.who === '' ? world.events.keys() : [asked.who];
  const events = world.events.get(who) ?? [];
  world.events.clear();
  return { way, asked, events, expected: judge(world.policy, c, way.door.mode), reachedOrigin };
}

interface Said {
  readonly verdict: string;
  readonly reason: string;
}

const told = (said: Said | undefined): string => `${said?.verdict} ${said?.reason}`;

/** What is wrong with what was seen, in words; empty when all is one answer. */
function problemsOf({ way: { door }, asked, events, expected, reachedOrigin }: Seen): readonly string[] {
  const want = told(expected.final);
  const isAllowed = expected.final.verdict === 'allow';
  const says = door.told(asked.answer);
  // After a yes there is nothing to be told in the protocol: the tunnel is cut.
  const isCut = expected.isGranted && !isAllowed && (door.mode === 'connect' || door.mode === 'socks5');
  return [
    ...(told(events.at(-1)) === want ? [] : [`recorded ${told(events.at(-1))}, not ${want}`]),
    ...(isCut || `${want} `.startsWith(`${says} `) ? [] : [`told ${says}, not ${want}`]),
    ...(isAllowed === reachedOrigin ? [] : [`bytes at the origin: ${reachedOrigin}`]),
    ...(isAllowed === asked.answer.includes('origin') ? [] : ['an answer that is not the right one']),
    ...(isCut || isAllowed ? [] : refusalProblems(door, asked, expected.final)),
  ].map((problem) => `${door.name}: ${problem}`);
}

const socksNo = (code: number): string =>
  `0500${`05${code.toString(16).padStart(2, '0')}0001`.padEnd(20, '0')}`;

/** Bytes of a refusal that has no words: a SOCKS reply, an alert, a reset. */
function refusalProblems(
  { mode }: LiveDoor,
  { answer, wasReset }: Asked,
  { reason }: Decision,
): readonly string[] {
  const hex = answer.toString('hex');
  if (mode === 'socks5')
    return hex === socksNo(reason === 'request_malformed' ? 1 : 2) ? [] : [`answered ${hex}`];
  if (mode === 'transparent') return hex === '15030300020231' ? [] : [`answered ${hex}`];
  if (mode === 'service') return hex === '' && wasReset ? [] : [`answered ${hex}`];
  return [];
}

/** What the record says of a client that was understood is the same at every door of a protocol, to the word. */
function recordOf({ events }: Seen): string {
  const { host, port, verdict, reason, rule, group, detail, policy, principal, addresses } =
    events.at(-1) ?? {};
  return JSON.stringify({ host, port, verdict, reason, rule, group, detail, policy, principal, addresses });
}

/** The whole refusal in HTTP. Of a request that could not be read each protocol says what is wrong in its own words: those are left out. */
function wordsOf({ asked }: Seen): string {
  const [head = '', body = ''] = asked.answer.toString('latin1').split('\r\n\r\n');
  const [status = '', ...fields] = head.split('\r\n').filter((line) => !line.startsWith('Content-Length'));
  const { host, detail, hint, didYouMean, ...rest } = JSON.parse(body) as Record<string, unknown>;
  if (rest['reason'] !== 'request_malformed')
    return JSON.stringify([status, fields, { host, detail, hint, didYouMean, ...rest }]);
  const parts = [host, detail, hint].map((part) => typeof part);
  return JSON.stringify([
    status.replace('431 Request Header Fields Too Large', '400 Bad Request'),
    fields,
    parts,
    rest,
  ]);
}

/** What the doors of one protocol put on record, and what they say in HTTP, is one thing each. */
function agreementProblems(seen: readonly Seen[]): readonly string[] {
  const read = seen.filter(({ expected }) => expected.final.reason !== 'request_malformed');
  // A hello that is the request may name nothing.
  const named = read.filter(({ events }) => events.at(-1)?.port !== null);
  const records = Map.groupBy(named, ({ way }) => (way.door.mode === 'http' ? 'exchange' : 'tunnel'));
  const refusals = seen.filter(({ asked }) => asked.answer.toString('latin1').startsWith('HTTP/1.1 4'));
  const words = Map.groupBy(refusals, ({ expected }) => expected.final.reason);
  return [
    ...[...records.values()].map((all) => new Set(all.map(recordOf))),
    ...[...words.values()].map((all) => new Set(all.map(wordsOf))),
  ]
    .filter((texts) => texts.size > 1)
    .map((texts) => `not the same: ${[...texts].join('\n')}`);
}

for (const file of [...own, ...policys]) {
  const isOwn = own.includes(file);
  t.test(`${file}: every door that can say a case gives its answer (failures 14, 18, 21, 23)`, async (t) => {
    const corpus = read(file);
    const world = await startWorld(t, corpus, isOwn);
    let clients = 0;
    for (const c of corpus.cases) {
      world.now = c;
      const ways = waysFor(c, typedTarget(c.target), world);
      const seen: Seen[] = [];
      for (const way of ways) seen.push(await see(c, way, world));
      clients += seen.length;
      t.same(
        [...seen.flatMap(problemsOf), ...agreementProblems(seen), ...literalProblems(c, seen, isOwn)],
        [],
        c.name,
      );
    }
    t.ok(clients > 0, `${clients} clients`);
    t.same(world.proxy.bugs, []);
  });
}

/** The case itself says what is right: decide() and the doors could be wrong alike. */
function literalProblems(c: Case, seen: readonly Seen[], isOwn: boolean): readonly string[] {
  if (isOwn && seen.length === 0) return ['no door can say it'];
  return seen.flatMap(({ way: { door }, expected }) => {
    const isHttp = door.mode === 'http';
    if (isHttp && !isOwn) return [];
    const want = isHttp ? (c.http ?? told(c)) : told(c);
    return want === told(expected.final)
      ? []
      : [`${door.name}: decide() says ${told(expected.final)}, the case ${want}`];
  });
}

/** As a question can hold it: labels of 1 to 63 bytes. */
function isQuestion(name: string): boolean {
  return name.length < 254 && /^(?:[^.\u0100-\uffff]{1,63}\.)*[^.\u0100-\uffff]{1,63}$/u.test(name);
}

t.test('the DNS stub answers exactly the names that a transparent door would take', async (t) => {
  const corpus = read('test/proxy/cases/hosts.json');
  const world = await startWorld(t, corpus, false);
  const hosts = new Set(corpus.cases.map(({ target }) => typedTarget(target).host));
  const { port = 0 } = world.proxy.ports.find(({ name }) => name === 'dns') ?? {};
  const taken = async (name: string): Promise<boolean> => {
    for (const at of transparentPorts) {
      const c = { ...nobody, target: `${name}:${at}` };
      for (const way of waysFor(c, typedTarget(c.target), world).filter(
        ({ address }) => address === world.beside,
      )) {
        if ((await see(c, way, world)).events[0]?.verdict === 'allow') return true;
      }
    }
    return false;
  };
  const said: string[] = [];
  for (const host of [...hosts].filter(isQuestion)) {
    const [answer] = await askUdp(port, [buildQuery({ name: host })], { at: world.beside });
    said.push(`${host} ${answer?.rcode === 0}`);
    t.equal(answer?.rcode === 0, await taken(host), JSON.stringify(host));
  }
  t.ok(said.filter((one) => one.endsWith(' true')).length > 10, 'some are answered');
  t.ok(said.filter((one) => one.endsWith(' false')).length > 30, 'and some are not');
});

t.test('every row of the tables of what cannot be said is about some case', async (t) => {
  const cases = [...own, ...policys].flatMap((file) => read(file).cases);
  const typed = cases.map(({ target }) => typedTarget(target));
  const idle = [
    ...doors.flatMap(({ cannot }) => cannot).filter(([, isSo]) => !typed.some(isSo)),
    ...[...notLive, ...notAsHello, ...notAtServices].filter(([, isSo]) => !cases.some(isSo)),
  ];
  t.same(
    idle.map(([why]) => why),
    [],
  );
});

/** What a person can ask about: the first gate, by a client that is known. */
const isForCheck = ({ addresses, hello, service, principal, target }: Case): boolean =>
  addresses === undefined &&
  hello === undefined &&
  service === undefined &&
  principal !== null &&
  typedTarget(target).port !== undefined;

const askable = ['connect', 'socks5', 'http'] as const;

function checkedAs(c: Case, mode: (typeof askable)[number]): string {
  return `${c.name}: ${mode === 'http' ? (c.http ?? told(c)) : told(c)}`;
}

t.test('policy check gives the answer of every case, in each of its modes', async (t) => {
  for (const file of own) {
    const { policy: document, cases } = read(file);
    const policy = parsePolicy(JSON.stringify(document));
    const asked = cases.filter(isForCheck);
    for (const mode of askable) {
      const targets = asked.map(({ target }) => target);
      const said = checkReport(policy, targets, mode).json as readonly Said[];
      t.same(
        said.map((one, i) => `${asked[i]?.name}: ${told(one)}`),
        asked.map((c) => checkedAs(c, mode)),
        `${file} --mode ${mode}`,
      );
    }
  }
});

t.test('so does the command, asked for all hosts, authorities and addresses at once', async (t) => {
  const files = own.filter((file) => /\/(?:hosts|authorities|addresses)\.json$/u.test(file)).map(read);
  const path = join(t.testdir({}), 'policy.json');
  writeFileSync(path, JSON.stringify(files[0]?.policy));
  // An argument holds no NUL.
  const asked = files.flatMap(({ cases }) => cases).filter((c) => isForCheck(c) && !c.target.includes('\0'));
  for (const mode of ['connect', 'http'] as const) {
    const args = ['check', '--policy', path, '--mode', mode, '--json', '--', ...asked.map((c) => c.target)];
    const run = promisify(execFile)(join(root, 'policy/bin.sh'), args, { maxBuffer: 2 ** 24 });
    const { stdout } = await run.catch((error: unknown) => error as { stdout: string });
    t.same(
      (JSON.parse(stdout) as Said[]).map((one, i) => `${asked[i]?.name}: ${told(one)}`),
      asked.map((c) => checkedAs(c, mode)),
      mode,
    );
  }
  t.ok(asked.length > 150, `${asked.length} targets`);
});
