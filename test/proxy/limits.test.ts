// Limits per principal and in all, on a clock that the test turns.
import t from 'tap';
import { createLimits, type Acquired, type Limits, type LimitsOptions } from '../../proxy/limits.ts';

function limitsOn(options: Partial<LimitsOptions> = {}): { limits: Limits; clock: { ms: number } } {
  const clock = { ms: 1000 };
  const wide = { maxTunnels: 100, maxTunnelsPerPrincipal: 100, maxConnectionsPerSecond: 1000, burst: 1000 };
  return { limits: createLimits({ ...wide, now: () => clock.ms, ...options }), clock };
}

const no = (reason: string): object => ({ ok: false, reason });
const release = (place: Acquired): void => (place.ok ? place.release() : undefined);

t.test('a principal over its own limit does not take places from another', async (t) => {
  const { limits } = limitsOn({ maxTunnelsPerPrincipal: 2 });
  const first = limits.acquire('a');
  limits.acquire('a');
  t.same(limits.acquire('a'), no('limit_tunnels'));
  t.match(limits.acquire('b'), { ok: true });
  t.equal(limits.open, 3);
  release(first);
  t.match(limits.acquire('a'), { ok: true }, 'a released place can be taken again');
});

t.test('all principals together stay under the total', async (t) => {
  const { limits } = limitsOn({ maxTunnels: 3 });
  for (const name of ['a', 'b', 'c']) limits.acquire(name);
  t.same(limits.acquire('d'), no('limit_tunnels'));
});

t.test('releasing twice gives one place back', async (t) => {
  const { limits } = limitsOn({ maxTunnels: 2 });
  const [one] = [limits.acquire('a'), limits.acquire('a')];
  release(one);
  release(one);
  t.equal(limits.open, 1);
});

t.test(
  'the rate limit allows a burst, then what time refills, and a refused attempt costs too',
  async (t) => {
    const { limits, clock } = limitsOn({ burst: 3, maxConnectionsPerSecond: 2 });
    for (let i = 0; i < 3; i += 1) release(limits.acquire('a'));
    t.same(limits.acquire('a'), no('limit_rate'));
    t.match(limits.acquire('b'), { ok: true }, 'another principal has its own bucket');
    clock.ms += 499;
    t.same(limits.acquire('a'), no('limit_rate'));
    clock.ms += 1;
    t.match(limits.acquire('a'), { ok: true });
    t.same(limits.acquire('a'), no('limit_rate'));
    clock.ms += 3_600_000;
    const after = Array.from({ length: 5 }, () => limits.acquire('a').ok);
    t.same(after, [true, true, true, false, false], 'never more than the burst');
  },
);

t.test('a clock that goes back neither gives nor takes', async (t) => {
  const { limits, clock } = limitsOn({ burst: 1, maxConnectionsPerSecond: 1 });
  limits.acquire('a');
  clock.ms -= 500;
  t.same(limits.acquire('a'), no('limit_rate'));
  clock.ms += 1000;
  t.match(limits.acquire('a'), { ok: true });
});

t.test(
  'names of principals cannot grow memory without bound; the quiet ones are forgotten first',
  async (t) => {
    const { limits, clock } = limitsOn({ maxTunnels: 10_000, burst: 1, maxConnectionsPerSecond: 1 });
    for (let i = 0; i < 4096; i += 1) limits.acquire(`p${i}`);
    t.same(limits.acquire('one more'), no('limit_tunnels'), 'all have a tunnel open');
    const { limits: quiet, clock: later } = limitsOn({ burst: 1, maxConnectionsPerSecond: 1 });
    for (let i = 0; i < 4096; i += 1) release(quiet.acquire(`p${i}`));
    t.same(quiet.acquire('one more'), no('limit_tunnels'), 'all have spent their tokens');
    later.ms += 1000;
    t.match(quiet.acquire('one more'), { ok: true });
    clock.ms += 1000;
    t.same(limits.acquire('one more'), no('limit_tunnels'), 'an open tunnel is never forgotten');
  },
);

t.test('a principal named like a prototype key is a name like any other', async (t) => {
  const { limits } = limitsOn({ maxTunnelsPerPrincipal: 1 });
  for (const name of ['__proto__', 'constructor']) {
    t.match(limits.acquire(name), { ok: true });
    t.same(limits.acquire(name), no('limit_tunnels'));
  }
});
