// What `policy check` says is what the live proxy does, for random targets (failure 14, feature 21).
// 10,000 in CI, 1,500 elsewhere; SALLYPORT_DIFFERENTIAL_TARGETS says another number.
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { decide, parseTarget, type Mode } from '../../policy/index.ts';
import { fuzzParameters } from '../helpers/fuzz.ts';
import { startHttpOrigin } from '../helpers/http-origin.ts';
import { startOrigin } from '../helpers/origin.ts';
import { startTestProxy, type TestProxy } from '../helpers/proxy.ts';
import { nameRequest, socksConnect } from '../helpers/socks.ts';

const count = Number(process.env['SALLYPORT_DIFFERENTIAL_TARGETS'] ?? (process.env['CI'] ? 10_000 : 1500));
const inFlight = 64;

const reason = 'test';
const policy = {
  allow: [
    { host: 'api.a.test', reason },
    { host: '*.pkg.b.test', reason, ports: [443, 8443] },
    { host: 'x.pkg.b.test', reason, ports: [9443] },
    { host: 'plain.a.test', reason, protocol: 'http' },
    { host: 'xn--bcher-kva.test', reason },
  ],
  deny: [
    { host: '*.bad.pkg.b.test', reason },
    { host: 'gist.a.test', reason },
  ],
  services: [{ name: 'db', host: 'db.a.test', port: 5432, reason }],
};

const known = [
  'api.a.test',
  'pkg.b.test',
  'x.pkg.b.test',
  'q.x.pkg.b.test',
  'y.bad.pkg.b.test',
  'bad.pkg.b.test',
  'plain.a.test',
];
const others = [
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

const name = fc.constantFrom(...known, ...others, ...addresses);
const label = fc.stringMatching(/^[a-z0-9-]{0,64}$/u);
const odd = fc.constantFrom(
  '',
  '.',
  '..',
  '@',
  '%2e',
  '\\',
  '/',
  '#',
  ' ',
  '\0',
  '\t',
  '_',
  'ä',
  '\u00ff',
  '[',
  ']',
  ':',
  'x',
  '-',
  '*',
);
const mutated = fc.tuple(name, odd, fc.nat(), fc.boolean(), label).map(([host, extra, at, upper, more]) => {
  const cut = at % (host.length + 1);
  const changed = host.slice(0, cut) + extra + host.slice(cut);
  const longer = more.length > 0 && at % 3 === 0 ? `${more}.${changed}` : changed;
  return upper ? longer.toUpperCase() : longer;
});
const port = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('443', '8443', '9443', '80', '22', '5432') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('', '0', '65536', '+443', '0443', '4 43', '443 ', 'x', '-1', '99999999999'),
  },
  { weight: 1, arbitrary: fc.nat({ max: 70_000 }).map(String) },
);
const hostOnly = fc.oneof(
  { weight: 3, arbitrary: name },
  { weight: 3, arbitrary: mutated },
  { weight: 1, arbitrary: label },
);
const target = fc.tuple(hostOnly, port).map(([host, at]) => `${host}:${at}`);

/** What the proxy puts on record for each target that comes over SOCKS5: the reply has no reason in it. */
async function socksVerdicts(proxy: TestProxy, targets: readonly string[]): Promise<(string | undefined)[]> {
  return await mapInFlight(targets, async (one) => {
    const [host, port] = splitTarget(one) ?? [];
    if (host === undefined || port === undefined) return undefined;
    const { socket, reply, peer } = await socksConnect(proxy.port, nameRequest(host, port));
    socket.destroy();
    if (reply === 0) return 'allow rule_matched';
    // On record before it was told; the port of a client may be used again later.
    const said = proxy.decisions.findLast((decision) => decision.peer === peer);
    return `${said?.verdict} ${said?.reason}`;
  });
}

/** A target as SOCKS5 says it: the port is a number there, and a name has a length. Undefined for what it has no way to say. */
function splitTarget(text: string): [host: string, port: number] | undefined {
  const at = text.lastIndexOf(':');
  const port = text.slice(at + 1);
  const host = text.slice(0, at);
  const isSaid = String(Number(port)) === port && /^\d+$/u.test(port) && Number(port) < 65_536;
  return isSaid && host.length > 0 && Buffer.byteLength(host) < 256 ? [host, Number(port)] : undefined;
}

/** What the proxy does with a target that comes over the wire. */
async function liveVerdict(proxy: TestProxy, authority: string): Promise<string> {
  const { status, headers, socket } = await proxy.connect(authority);
  socket.destroy();
  return status === 200 ? 'allow rule_matched' : `deny ${headers.get('sallyport-reason')}`;
}

function checkedVerdict(proxy: TestProxy, authority: string, mode: Mode = 'connect'): string {
  const request = { principal: { name: 'local' }, target: parseTarget(authority), mode };
  const decision = decide(proxy.deps.policyStore.current, request);
  return `${decision.verdict} ${decision.reason}`;
}

/** `act` on every item, `inFlight` at a time, results in order. */
async function mapInFlight<A, B>(items: readonly A[], act: (item: A) => Promise<B>): Promise<B[]> {
  const results: B[] = [];
  const work = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of work) results[index] = await act(item);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return results;
}

t.test(`policy check and the live proxy agree on ${count} random targets`, async (t) => {
  const origin = await startOrigin(t, (socket) => void socket.resume());
  const proxy = await startTestProxy(t, { policy, origin: origin.port });
  const { seed } = fuzzParameters();
  const targets = fc.sample(target, { numRuns: count, ...(seed === undefined ? {} : { seed }) });
  const checked = targets.map((one) => checkedVerdict(proxy, one));
  const live = await mapInFlight(targets, async (one) => await liveVerdict(proxy, one));
  const differences = targets.flatMap((one, i) =>
    live[i] === checked[i] ? [] : [{ target: one, live: live[i], check: checked[i] }],
  );
  t.same(differences.slice(0, 10), []);
  const seen = new Set(checked);
  for (const verdict of [
    'allow rule_matched',
    'deny rule_denied',
    'deny no_rule_matched',
    'deny port_not_allowed',
  ]) {
    t.ok(seen.has(verdict), `${verdict} is among the targets`);
  }
  for (const verdict of ['deny host_is_address', 'deny request_malformed', 'deny protocol_not_allowed']) {
    t.ok(seen.has(verdict), `${verdict} is among the targets`);
  }
  await proxy.closed(count);
  t.same(proxy.bugs, []);
});

t.test(
  'SOCKS5 gives the same verdict and reason for every target that it has a way to say (failure 23)',
  async (t) => {
    const origin = await startOrigin(t, (socket) => void socket.resume());
    const proxy = await startTestProxy(t, { policy, origin: origin.port });
    const { seed } = fuzzParameters();
    const targets = fc.sample(target, { numRuns: count, ...(seed === undefined ? {} : { seed }) });
    const said = await socksVerdicts(proxy, targets);
    const compared = targets.flatMap((one, i) =>
      said[i] === undefined ? [] : [{ target: one, socks5: said[i], check: checkedVerdict(proxy, one) }],
    );
    t.same(compared.filter(({ socks5, check }) => socks5 !== check).slice(0, 10), []);
    t.ok(compared.length > count / 2, 'most targets can be said');
    t.equal(new Set(compared.map(({ check }) => check)).size, 7, 'with seven kinds of answers');
    t.same(proxy.bugs, []);
  },
);

t.test(
  'plain HTTP gives the verdict and reason of policy check --mode http for every target (failure 23)',
  async (t) => {
    const origin = await startHttpOrigin(t, (_, response) => void response.end('{}'));
    const proxy = await startTestProxy(t, { policy, origin: origin.port });
    const { seed } = fuzzParameters();
    const drawn = fc.sample(target, { numRuns: count, ...(seed === undefined ? {} : { seed }) });
    // What an authority of a URL cannot hold is another request line; port 80 is what a rule for plain HTTP has.
    const targets = drawn
      .filter((one) => /^[^/?#\s\0]+$/u.test(one))
      .map((one) => one.replace(/:443$/u, ':80'));
    const said = await mapInFlight(targets, async (one) => {
      const { status, headers, socket } = await proxy.send(
        `GET http://${one}/ HTTP/1.1\r\nHost: ${one}\r\n\r\n`,
      );
      socket.destroy();
      return status === 200 ? 'allow rule_matched' : `deny ${headers.get('sallyport-reason')}`;
    });
    const checked = targets.map((one) => checkedVerdict(proxy, one, 'http'));
    const differences = targets.flatMap((one, i) =>
      said[i] === checked[i] ? [] : [{ target: one, http: said[i], check: checked[i] }],
    );
    t.same(differences.slice(0, 10), []);
    t.equal(new Set(checked).size, 7, 'with seven kinds of answers');
    t.equal(origin.seen.length, checked.filter((one) => one.startsWith('allow')).length);
    t.same(proxy.bugs, []);
  },
);

t.test('the command itself says the same as the live proxy', async (t) => {
  const origin = await startOrigin(t, (socket) => void socket.resume());
  const proxy = await startTestProxy(t, { policy, origin: origin.port });
  const file = join(t.testdir(), 'policy.json');
  await writeFile(file, JSON.stringify(policy));
  // An argument cannot hold every byte or begin like a flag; without a port the command means 443 and the wire nothing.
  const isArgument = (one: string): boolean => /^(?!-)[\t\u0020-\u007e]*:\d+$/u.test(one);
  const targets = fc.sample(target, { numRuns: 600, seed: 2 }).filter(isArgument);
  const cli = join(import.meta.dirname, '../../policy/cli.ts');
  const args = [cli, 'check', '--policy', file, '--json', ...targets];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 26 }).catch(
    (error: { stdout: string }) => error,
  );
  const said = JSON.parse(stdout) as { verdict: string; reason: string }[];
  const live = await mapInFlight(targets, async (one) => await liveVerdict(proxy, one));
  t.ok(targets.length > 300);
  t.same(
    said.map((one, i) => `${targets[i]} ${one.verdict} ${one.reason}`),
    live.map((one, i) => `${targets[i]} ${one}`),
  );
});
