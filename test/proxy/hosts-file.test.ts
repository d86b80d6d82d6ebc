// The hosts file: strict reading, following changes, bounds; and that it comes before the DNS.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { createHostsFile, parseHosts } from '../../proxy/hosts-file.ts';
import { createResolver } from '../../proxy/resolve.ts';
import { startDns } from '../helpers/dns.ts';

const table = (text: string): Record<string, string[]> =>
  Object.fromEntries(
    [...parseHosts(text)].map(([host, list]) => [host, list.map((address) => address.text)]),
  );

function fileWith(t: Test, content: string): string {
  const path = `${t.testdir({})}/hosts`;
  writeFileSync(path, content);
  return path;
}

t.test('lines give names addresses, in canonical form, over all lines', async (t) => {
  const text = `
    # a comment
    192.0.2.1   A.Test a.test. b.test  # the first
    192.0.2.2\ta.test\r
    2001:DB8:0::1 a.test
    192.0.2.1 a.test
    127.0.0.1 constructor.prototype`;
  t.same(table(text), {
    'a.test': ['192.0.2.1', '192.0.2.2', '2001:db8::1'],
    'b.test': ['192.0.2.1'],
    'constructor.prototype': ['127.0.0.1'],
  });
});

t.test('what cannot be read strictly is skipped, and the rest still counts', async (t) => {
  const text = [
    '192.0.2.256 bad.test',
    '0x7f.1 bad.test',
    'fe80::1%eth0 bad.test',
    'bad.test 192.0.2.1',
    '192.0.2.1',
    '192.0.2.1 localhost under_score.test *.test a..test ex\u00e4mple.test 1.2.3.4 good.test',
  ].join('\n');
  t.same(table(text), { 'good.test': ['192.0.2.1'] });
});

t.test('a changed file is read again; a missing one lists nothing until it appears', async (t) => {
  const path = fileWith(t, '192.0.2.1 a.test');
  const hosts = createHostsFile(path);
  const texts = (): string[] => hosts.lookup('a.test').map(({ text }) => text);
  t.same(texts(), ['192.0.2.1']);
  t.equal(hosts.lookup('a.test'), hosts.lookup('a.test'), 'an unchanged file is not read again');
  writeFileSync(path, '192.0.2.22 a.test');
  t.same(texts(), ['192.0.2.22']);
  rmSync(path);
  t.same(texts(), []);
  writeFileSync(path, '192.0.2.3 a.test');
  t.same(texts(), ['192.0.2.3']);
  t.same(hosts.lookup('b.test'), []);
});

t.test('a file that hides its content is an error, not an empty file', async (t) => {
  const path = fileWith(t, `192.0.2.1 a.test\n#${'x'.repeat(1024 * 1024)}`);
  t.throws(() => createHostsFile(path).lookup('a.test'), /larger than 1 MiB/);
  rmSync(path);
  mkdirSync(path);
  t.throws(() => createHostsFile(path).lookup('a.test'), /not a regular file/);
});

t.test(
  'the hosts file answers first, the DNS answers the rest, and an unreadable file fails closed',
  async (t) => {
    await using dns = await startDns({
      'a.test': { addresses: ['192.0.2.9'] },
      'b.test': { addresses: ['192.0.2.9'] },
    });
    const path = fileWith(t, '192.0.2.1 a.test');
    const limits = { timeoutMs: 9000, minTtlMs: 0, maxTtlMs: 0, negativeTtlMs: 0, maxEntries: 9 };
    const resolver = createResolver({ servers: [dns.address], hostsFile: path, ...limits });
    t.match(await resolver.resolve('a.test'), [{ text: '192.0.2.1' }]);
    t.same(dns.asked, []);
    t.match(await resolver.resolve('b.test'), [{ text: '192.0.2.9' }]);
    rmSync(path);
    mkdirSync(path);
    const unreadable = { code: 'dns_failed', stage: 'resolve', cause: { message: /not a regular file/ } };
    await t.rejects(resolver.resolve('b.test'), unreadable);
  },
);
