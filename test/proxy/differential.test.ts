// What `policy check` says is what every door of the live proxy does, for random targets (failures 14, 23; feature 21).
// 100,000 targets; SALLYPORT_DIFFERENTIAL_TARGETS says another number, SALLYPORT_FUZZ_SEED another seed (`random` a new one).
// The policy stands in cases/random.json; a difference is printed as a case for it, which the vectors beside this file then run at every door.
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { decide, parseTarget, type Mode } from '../../policy/index.ts';
import { askAt, doors, ownLoopback, transparentPorts, typedTarget, whyNot } from '../helpers/doors.ts';
import type { LiveDoor } from '../helpers/doors.ts';
import { fuzzParameters } from '../helpers/fuzz.ts';
import { startTestProxy, type TestProxy } from '../helpers/proxy.ts';
import random from './cases/random.json' with { type: 'json' };

// About 45 s of CPU: longer on a busy machine.
t.setTimeout(600_000);

const count = Number(process.env['SALLYPORT_DIFFERENTIAL_TARGETS'] ?? 100_000);
/** One target in so many is asked for at every door that can say it, the others at one in turn. */
const everywhere = 25;
const inFlight = 64;
const { policy } = random;
const [tlsPort = 0, otherPort = 0, httpPort = 0] = transparentPorts;

const tlsNames = ['api.a.test', 'x.pkg.b.test', 'q.x.pkg.b.test', 'q.pkg.b.test', 'API.a.test.'];
const httpNames = ['plain.a.test', 'a.plain.b.test', 'a.B.plain.b.test.'];
const others = [
  'pkg.b.test',
  'y.bad.pkg.b.test',
  'bad.pkg.b.test',
  'plain.b.test',
  'gist.a.test',
  'db.a.test',
  'db',
  'xn--bcher-kva.test',
  'constructor',
  '__proto__',
  'localhost',
  'a.test',
];
const addresses = [
  '1.2.3.4',
  '127.1',
  '2130706433',
  '0x7f.1',
  '0177.0.0.1',
  '[::1]',
  '[::ffff:1.2.3.4]',
  '[::1%25lo]',
  '169.254.169.254',
];

const anyName = fc.constantFrom(...tlsNames, ...httpNames, ...others, ...addresses);
const label = fc.stringMatching(/^[a-z0-9-]{0,64}$/u);
const oddTexts: readonly string[] = [
  '',
  '.',
  '..',
  '@',
  '%2e',
  '\\',
  '/',
  '#',
  '?',
  ' ',
  '\0',
  '\t',
  '\r\n',
  '_',
  'x',
  '-',
  '*',
  ':',
  '[',
  ']',
  '\u00e4',
  '\u00ff',
  '\u212a',
  '\u3002',
];
const odd = fc.constantFrom(...oddTexts);
const mutated = fc
  .tuple(anyName, odd, fc.nat(), fc.boolean(), label)
  .map(([host, extra, at, upper, more]) => {
    const cut = at % (host.length + 1);
    const changed = host.slice(0, cut) + extra + host.slice(cut);
    const longer = more.length > 0 && at % 3 === 0 ? `${more}.${changed}` : changed;
    return upper ? longer.toUpperCase() : longer;
  });
const anyHost = fc.oneof(
  { weight: 4, arbitrary: anyName },
  { weight: 4, arbitrary: mutated },
  { weight: 1, arbitrary: label },
);
const doorPorts = transparentPorts.map(String);
const anyPort = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...doorPorts, ...doorPorts, '443', '8443', '9443', '80', '5432') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('', '0', '65536', '+443', '0443', '4 43', '443 ', 'x', '-1', '9'.repeat(11)),
  },
  { weight: 1, arbitrary: fc.nat({ max: 70_000 }).map(String) },
);
/** About a third is allowed in one mode or the other. */
const target = fc
  .oneof(
    { weight: 5, arbitrary: fc.tuple(anyHost, anyPort) },
    {
      weight: 3,
      arbitrary: fc.tuple(
        fc.constantFrom(...tlsNames),
        fc.constantFrom('443', String(tlsPort), String(otherPort)),
      ),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(fc.constantFrom(...httpNames), fc.constantFrom('80', String(httpPort))),
    },
  )
  .map(([host, port]) => `${host}:${port}`);

interface World {
  readonly proxy: TestProxy;
  /** Where the transparent doors are. */
  readonly beside: string;
  /** The last verdict that is on record for a client. */
  readonly verdictOf: (who: string) => string;
}

/** Nobody is behind it: what is allowed ends with a failure of the world, which no door mixes up with a no. */
async function startWorld(t: Tap): Promise<World> {
  const beside = ownLoopback();
  const verdicts = new Map<string, string>();
  const proxy = await startTestProxy(t, {
    policy,
    settings: { transparent: transparentPorts.map((port) => `${beside}:${port}`) },
    onDecided: ({ peer, listener, verdict, reason: why }) =>
      void verdicts.set(`${peer} ${listener}`, `${verdict} ${why}`),
  });
  return { proxy, beside, verdictOf: (who) => verdicts.get(who) ?? 'nothing' };
}
type Tap = Parameters<typeof startTestProxy>[0];

interface Outcome {
  readonly target: string;
  readonly door: string;
  readonly told: string;
  readonly recorded: string;
  readonly checked: string;
}

/** What a live door does with a target, beside what decide() says. */
async function ask(door: LiveDoor, text: string, { proxy, beside, verdictOf }: World): Promise<Outcome> {
  const typed = typedTarget(text);
  const isBeside = door.at === 'transparent';
  const port = transparentPorts.includes(Number(typed.port)) ? Number(typed.port) : tlsPort;
  const { answer, who } = await askAt(
    isBeside ? beside : '127.0.0.1',
    isBeside ? port : proxy.port,
    door.says(typed),
  );
  const checked = checkedVerdict(proxy, text, door.mode);
  return { target: text, door: door.name, told: door.told(answer), recorded: verdictOf(who), checked };
}

function checkedVerdict(proxy: TestProxy, text: string, mode: Mode): string {
  const request = { principal: { name: 'local' }, target: parseTarget(text), mode };
  const { verdict, reason: why } = decide(proxy.deps.policyStore.current, request);
  return `${verdict} ${why}`;
}

/** The record has the whole answer; a client is told as much of it as its protocol has words for. */
function differs({ told, recorded, checked }: Outcome): boolean {
  return recorded !== checked || !`${checked} `.startsWith(`${told} `);
}

/** The doors to ask for target number `index`. */
function doorsFor(text: string, index: number): readonly LiveDoor[] {
  const typed = typedTarget(text);
  const able = doors.filter((door) => whyNot(door, typed) === undefined);
  return index % everywhere === 0 ? able : able.filter((_, i) => i === index % able.length);
}

/** `act` on every item, `inFlight` at a time. */
async function eachInFlight<A>(items: Iterable<A>, act: (item: A) => Promise<void>): Promise<void> {
  const work = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (let next = work.next(); next.done !== true; next = work.next()) await act(next.value);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
}

t.test(`policy check and every live door agree on ${count} random targets (failures 14, 23)`, async (t) => {
  const world = await startWorld(t);
  const { seed = 0 } = fuzzParameters();
  const targets = fc.sample(target, { numRuns: count, seed });
  const seen = new Map(doors.map(({ name }) => [name, new Map<string, number>()]));
  const found: Outcome[] = [];
  await eachInFlight(targets.entries(), async ([index, text]) => {
    for (const door of doorsFor(text, index)) {
      const outcome = await ask(door, text, world);
      if (differs(outcome)) found.push(outcome);
      const kinds = seen.get(door.name);
      kinds?.set(outcome.checked, (kinds.get(outcome.checked) ?? 0) + 1);
    }
  });
  t.same(
    found.slice(0, 10).map((one) => asCase(one, world)),
    [],
    `SALLYPORT_FUZZ_SEED=${seed} repeats it`,
  );
  const asked = [...seen.values()].flatMap((kinds) => [...kinds.values()]).reduce((sum, n) => sum + n, 0);
  t.ok(asked >= count, `${asked} requests on sockets`);
  t.same(
    Object.fromEntries([...seen].map(([door, kinds]) => [door, [...kinds.keys()].toSorted()])),
    Object.fromEntries(
      doors.map(({ name }) => [name, name === 'SOCKS5 by address' ? onlyAddresses : everyKind]),
    ),
    'each door gives every answer of the first gate',
  );
  t.same([world.proxy.asked.length > 0, world.proxy.bugs], [true, []]);
});

const onlyAddresses = ['deny host_is_address'];
const everyKind = [
  'allow rule_matched',
  'deny host_is_address',
  'deny no_rule_matched',
  'deny port_not_allowed',
  'deny protocol_not_allowed',
  'deny request_malformed',
  'deny rule_denied',
];

/** As a line of cases/random.json, and what was seen instead. */
function asCase({ target, door, told, recorded }: Outcome, { proxy }: World): string {
  const [verdict = '', why = ''] = checkedVerdict(proxy, target, 'connect').split(' ');
  const http = checkedVerdict(proxy, target, 'http');
  const found = { name: `${door} differed`, target, verdict, reason: why, http };
  return `${JSON.stringify(found)} told ${told}, recorded ${recorded}`;
}

t.test('the command itself says the same as the live proxy, in both modes', async (t) => {
  const world = await startWorld(t);
  const file = join(t.testdir(), 'policy.json');
  await writeFile(file, JSON.stringify(policy));
  // An argument holds no NUL; without a port the command means 443 or 80, and the wire nothing.
  const isArgument = (one: string): boolean => !one.includes('\0') && typedTarget(one).port !== undefined;
  const targets = fc.sample(target, { numRuns: 2000, seed: 2 }).filter(isArgument);
  const cli = join(import.meta.dirname, '../../policy/cli.ts');
  for (const door of doors.filter(({ name }) => name === 'CONNECT' || name === 'plain HTTP')) {
    const args = [cli, 'check', '--policy', file, '--mode', door.mode, '--json', '--', ...targets];
    const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 27 }).catch(
      (error: { stdout: string }) => error,
    );
    const said = JSON.parse(stdout) as { verdict: string; reason: string }[];
    const live: string[] = [];
    await eachInFlight(targets.entries(), async ([i, text]) => {
      live[i] = (await ask(door, text, world)).recorded;
    });
    t.ok(targets.length > 1500);
    t.same(
      said.map((one, i) => `${targets[i]} ${one.verdict} ${one.reason}`),
      live.map((one, i) => `${targets[i]} ${one}`),
      door.name,
    );
  }
});
