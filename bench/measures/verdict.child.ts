// Times decide() and the ClientHello reader in a process of their own: `node verdict.child.ts MS RULES...` prints one JSON object of ns by figure id.
// Every number is the median of nine batches, in CPU time.
import { decide, type EgressRequest, parsePolicy, parseTarget, type Policy } from '../../policy/index.ts';
import { parseClientHello } from '../../proxy/client-hello.ts';
import { buildHello } from '../../test/helpers/hello.ts';
import { median } from '../stats.ts';

const [ms = 0, ...sizes] = process.argv.slice(2).map(Number);
const batches = 9;
const warmMs = 200;
const asked = 1024;
const maxHelloBytes = 32_768;
const reason = 'bench';

/** Half of the rules name a host, half a wildcard. */
function policyOf(rules: number): Policy {
  const allow = Array.from({ length: rules / 2 }, (_, i) => [
    { host: `host-${i}.exact.bench.test`, reason },
    { host: `*.zone-${i}.wild.bench.test`, reason },
  ]);
  return parsePolicy(JSON.stringify({ allow: allow.flat() }));
}

/** Requests spread over the whole policy, so that no answer is the one just given. */
function requests(rules: number, hostOf: (i: number) => string): readonly EgressRequest[] {
  const step = Math.max(1, Math.floor(rules / 2 / asked));
  return Array.from({ length: asked }, (_, i) => ({
    principal: { name: 'local' },
    target: parseTarget(`${hostOf((i * step) % (rules / 2))}:443`),
    mode: 'connect',
  }));
}

/** CPU of this thread: a busy machine does not change it much. */
function cpuNs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) * 1000;
}

function nsOf(work: (i: number) => boolean, expected: boolean): number {
  const batch = (length: number): number => {
    const until = performance.now() + length;
    let [done, right] = [0, 0];
    const began = cpuNs();
    while (performance.now() < until) {
      for (let i = 0; i < asked; i += 1) right += work(i) === expected ? 1 : 0;
      done += asked;
    }
    if (right !== done) throw new Error(`${done - right} of ${done} answers are wrong`);
    return (cpuNs() - began) / done;
  };
  // The first one is for the compiler.
  batch(warmMs);
  return median(Array.from({ length: batches }, () => batch(ms)));
}

function decideNs(rules: number): Record<string, number> {
  const policy = policyOf(rules);
  const time = (list: readonly EgressRequest[], expected: boolean): number =>
    nsOf((i) => {
      const request = list[i];
      return request !== undefined && decide(policy, request).verdict === 'allow';
    }, expected);
  return {
    [`decideHit${rules}`]: time(
      requests(rules, (i) => `host-${i}.exact.bench.test`),
      true,
    ),
    [`decideWild${rules}`]: time(
      requests(rules, (i) => `a.b.zone-${i}.wild.bench.test`),
      true,
    ),
    [`decideMiss${rules}`]: time(
      requests(rules, (i) => `host-${i}.other.bench.test`),
      false,
    ),
  };
}

function helloNs(): number {
  const hello = buildHello({ serverName: 'upstream.bench.test', grease: true, padTo: 512 });
  return nsOf(() => parseClientHello(hello, maxHelloBytes).kind === 'complete', true);
}

console.log(JSON.stringify(Object.assign({ helloParse: helloNs() }, ...sizes.map(decideNs))));
