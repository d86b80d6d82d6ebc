// Resolving over a DNS server of our own: every failure is a coded error, nothing is asked twice without need, and no
// search domain is ever used.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { createResolver, type Resolver, type ResolverOptions } from '../../proxy/resolve.ts';
import { startDns, type DnsReply, type DnsServer } from '../helpers/dns.ts';

interface Started {
  readonly dns: DnsServer;
  readonly resolver: Resolver;
  readonly clock: { ms: number };
  /** Addresses of `name` as text. */
  readonly texts: (name: string) => Promise<readonly string[]>;
}

async function start(
  t: Test,
  zone: Record<string, DnsReply | readonly DnsReply[]>,
  more: Partial<ResolverOptions> = {},
): Promise<Started> {
  const dns = await startDns(zone);
  const clock = { ms: 0 };
  const resolver = createResolver({
    servers: [dns.address],
    hostsFile: null,
    timeoutMs: 30_000,
    minTtlMs: 1000,
    maxTtlMs: 60_000,
    negativeTtlMs: 2000,
    maxEntries: 10,
    now: () => clock.ms,
    ...more,
  });
  t.teardown(async () => {
    resolver.close();
    await dns[Symbol.asyncDispose]();
  });
  const texts: Started['texts'] = async (name) => (await resolver.resolve(name)).map(({ text }) => text);
  return { dns, resolver, clock, texts };
}

const failed = { code: 'dns_failed', stage: 'resolve' };
const late = { code: 'dns_timeout', stage: 'resolve' };

t.test('both families are asked and given, IPv6 first', async (t) => {
  const { dns, texts } = await start(t, {
    'both.test': { addresses: ['192.0.2.1', '192.0.2.2', '2001:db8::1'] },
    'four.test': { addresses: ['192.0.2.4'] },
    'six.test': { addresses: ['2001:db8::6'] },
    'alias.test': { cname: 'real.test', addresses: ['192.0.2.7'] },
  });
  t.same((await texts('both.test')).toSorted(), ['192.0.2.1', '192.0.2.2', '2001:db8::1']);
  t.equal((await texts('both.test'))[0], '2001:db8::1');
  t.same(await texts('four.test'), ['192.0.2.4'], 'no AAAA is normal');
  t.same(await texts('six.test'), ['2001:db8::6'], 'no A is normal');
  t.same(await texts('alias.test'), ['192.0.2.7']);
  const types = dns.asked.filter(({ name }) => name === 'both.test').map(({ type }) => type);
  t.same(types.toSorted(), ['A', 'AAAA'], 'each family once');
});

t.test(
  'a look-up that fails never becomes an answer: SERVFAIL, NXDOMAIN, REFUSED, empty, CNAME loop',
  async (t) => {
    const { resolver } = await start(t, {
      'servfail.test': { code: 'SERVFAIL' },
      'refused.test': { code: 'REFUSED' },
      'empty.test': {},
      'loop.test': { cname: 'pool.test' },
      'half.test': [{ only: 'AAAA' }, { only: 'A', code: 'SERVFAIL' }],
    });
    for (const name of [
      'servfail.test',
      'refused.test',
      'empty.test',
      'loop.test',
      'half.test',
      'missing.test',
    ]) {
      await t.rejects(resolver.resolve(name), { ...failed, message: new RegExp(`\`${name}\``) }, name);
    }
  },
);

t.test(
  'silence is dns_timeout, within the limit, and so is silence in the only family that could answer',
  async (t) => {
    const zone = {
      'silent.test': { silent: true },
      'half.test': [{ only: 'AAAA' }, { only: 'A', silent: true }],
    } as const;
    const { resolver } = await start(t, zone, { timeoutMs: 40 });
    await t.rejects(resolver.resolve('silent.test'), late);
    await t.rejects(resolver.resolve('half.test'), late);
  },
);

t.test('a broken family does not hide a working one, and such an answer is kept only briefly', async (t) => {
  const { dns, texts, clock } = await start(
    t,
    {
      'broken6.test': [
        { only: 'AAAA', code: 'SERVFAIL' },
        { only: 'A', addresses: ['192.0.2.1'] },
      ],
      'silent6.test': [
        { only: 'AAAA', silent: true },
        { only: 'A', addresses: ['192.0.2.2'] },
      ],
    },
    { timeoutMs: 300 },
  );
  t.same(await texts('broken6.test'), ['192.0.2.1']);
  t.same(await texts('silent6.test'), ['192.0.2.2']);
  dns.set('broken6.test', { addresses: ['192.0.2.1', '2001:db8::1'] });
  clock.ms += 1000;
  t.same((await texts('broken6.test')).length, 2, 'asked again after the shortest time, not after the TTL');
});

t.test('no server at all is dns_failed', async (t) => {
  const gone = await startDns();
  await gone[Symbol.asyncDispose]();
  const { resolver } = await start(t, {}, { servers: [gone.address] });
  await t.rejects(resolver.resolve('a.test'), failed);
});

t.test(
  'a name whose answer flips is asked once while its TTL lasts: one look-up, one set of addresses',
  async (t) => {
    const { dns, texts, clock } = await start(t, {
      'rebind.test': [
        { addresses: ['192.0.2.1'], ttl: 10 },
        { addresses: ['127.0.0.1'], ttl: 10 },
      ],
    });
    t.same(await texts('rebind.test'), ['192.0.2.1']);
    clock.ms += 9999;
    t.same(await texts('rebind.test'), ['192.0.2.1']);
    t.equal(dns.asked.length, 2, 'one question a family');
    clock.ms += 1;
    t.same(
      await texts('rebind.test'),
      ['127.0.0.1'],
      'the second answer is a new look-up, to be judged anew',
    );
    t.equal(dns.asked.length, 4);
  },
);

t.test('TTLs are bounded from below and above', async (t) => {
  const { dns, texts, clock } = await start(t, {
    'zero.test': { addresses: ['192.0.2.1'], ttl: 0 },
    'year.test': { addresses: ['192.0.2.2'], ttl: 31_536_000 },
  });
  await texts('zero.test');
  clock.ms += 999;
  await texts('zero.test');
  t.equal(dns.asked.length, 2, 'a TTL of 0 still shields the server from a loop');
  clock.ms += 1;
  await texts('zero.test');
  t.equal(dns.asked.length, 4);
  await texts('year.test');
  clock.ms += 60_000;
  await texts('year.test');
  t.equal(dns.asked.length, 8);
});

t.test('failures are kept too, and shorter than answers', async (t) => {
  const { dns, resolver, texts, clock } = await start(t, { 'flaky.test': { code: 'SERVFAIL' } });
  await t.rejects(resolver.resolve('flaky.test'), failed);
  const asked = dns.asked.length;
  dns.set('flaky.test', { addresses: ['192.0.2.1'] });
  await t.rejects(resolver.resolve('flaky.test'), failed);
  t.equal(dns.asked.length, asked, 'a retry loop is not a query loop');
  clock.ms += 2000;
  t.same(await texts('flaky.test'), ['192.0.2.1']);
});

t.test('the cache holds a bounded number of names and drops the one used longest ago', async (t) => {
  const zone = Object.fromEntries(['a', 'b', 'c'].map((n) => [`${n}.test`, { addresses: ['192.0.2.1'] }]));
  const { dns, texts } = await start(t, zone, { maxEntries: 2 });
  for (const name of ['a.test', 'b.test', 'a.test', 'c.test', 'a.test', 'b.test']) await texts(name);
  const asked = dns.asked.filter(({ type }) => type === 'A').map(({ name }) => name);
  t.same(asked, ['a.test', 'b.test', 'c.test', 'b.test']);
});

t.test('a hundred callers of one name share one look-up', async (t) => {
  const { dns, texts } = await start(t, { 'a.test': { addresses: ['192.0.2.1'] } });
  const all = await Promise.all(Array.from({ length: 100 }, () => texts('a.test')));
  t.same(new Set(all.flat()), new Set(['192.0.2.1']));
  t.equal(dns.asked.length, 2);
});

t.test('a caller that leaves does not take the look-up from the others', async (t) => {
  const { dns, resolver } = await start(t, { 'slow.test': { silent: true } });
  const controller = new AbortController();
  const leaving = resolver.resolve('slow.test', controller.signal);
  const staying = resolver.resolve('slow.test');
  await dns.askedFor('slow.test');
  controller.abort();
  await t.rejects(leaving, { ...failed, message: /cancelled/ });
  t.equal(
    await Promise.race([staying.catch(() => 'gone'), Promise.resolve('still waiting')]),
    'still waiting',
  );
  resolver.close();
  await t.rejects(staying, failed);
});

t.test('when the last caller leaves the look-up is cancelled, and not remembered as a failure', async (t) => {
  const { dns, resolver, texts } = await start(t, {
    'slow.test': [{ silent: true }, { addresses: ['192.0.2.1'] }],
  });
  const controller = new AbortController();
  const leaving = resolver.resolve('slow.test', controller.signal);
  await dns.askedFor('slow.test');
  controller.abort();
  await t.rejects(leaving, failed);
  dns.set('slow.test', { addresses: ['192.0.2.1'] });
  t.same(await texts('slow.test'), ['192.0.2.1']);
});

t.test('an aborted signal and a closed resolver ask nothing', async (t) => {
  const { dns, resolver } = await start(t, { 'a.test': { addresses: ['192.0.2.1'] } });
  await t.rejects(resolver.resolve('a.test', AbortSignal.abort()), failed);
  resolver.close();
  await t.rejects(resolver.resolve('a.test'), failed);
  t.same(dns.asked, []);
});

t.test('more than 128 addresses are refused, not tried', async (t) => {
  const octets = (count: number): string[] => Array.from({ length: count }, (_, i) => `192.0.2.${i}`);
  const { resolver, texts } = await start(t, {
    'many.test': { addresses: octets(129) },
    'full.test': { addresses: octets(128) },
    'same.test': { addresses: ['192.0.2.1', '192.0.2.1'] },
  });
  await t.rejects(resolver.resolve('many.test'), { ...failed, message: /more than 128/ });
  t.equal((await texts('full.test')).length, 128);
  t.same(await texts('same.test'), ['192.0.2.1']);
});

t.test(
  'search domains of the machine are not used: a missing name is asked as it is and no other way',
  async (t) => {
    const { dns } = await start(t, {});
    const script = `
    import { createResolver } from './proxy/resolve.ts';
    const options = { hostsFile: null, timeoutMs: 9000, minTtlMs: 0, maxTtlMs: 0, negativeTtlMs: 0, maxEntries: 1 };
    const resolver = createResolver({ servers: ['${dns.address}'], ...options });
    await resolver.resolve('api.corp.test').catch((error) => console.log(error.code));`;
    const env = { LOCALDOMAIN: 'evil.test sandbox.test', RES_OPTIONS: 'ndots:9', PATH: process.env['PATH'] };
    const args = ['--input-type=module-typescript', '-e', script];
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      env,
      cwd: `${import.meta.dirname}/../..`,
    });
    t.equal(stdout, 'dns_failed\n');
    t.same([...new Set(dns.asked.map(({ name }) => name))], ['api.corp.test']);
  },
);

t.test('a resolver that is not an address is refused at the start, with help', async (t) => {
  const options = {
    hostsFile: null,
    timeoutMs: 1,
    minTtlMs: 0,
    maxTtlMs: 0,
    negativeTtlMs: 0,
    maxEntries: 1,
  };
  t.throws(
    () => createResolver({ ...options, servers: ['dns.example'] }),
    /`dns\.example`.*\nhelp: give IP:PORT/,
  );
});
