// Who a client is, by the two ends of its connection alone; and how those ends are written.
import t from 'tap';
import { formatEndpoint, isLoopback, parseEndpoint } from '../../proxy/endpoint.ts';
import { bindPrincipals } from '../../proxy/principal.ts';

const at = (text: string): { address: string; port: number } => parseEndpoint(text);

t.test(
  'a loopback listener that nothing is declared for knows the one principal `local`; any other knows nobody',
  async (t) => {
    const of = bindPrincipals([]);
    t.same(of(at('127.0.0.1:3128'), at('127.0.0.1:5')), { name: 'local' });
    t.same(of(at('[::1]:3128'), at('[::1]:5')), { name: 'local' });
    t.equal(of(at('10.0.3.1:3128'), at('10.0.3.2:5')), undefined);
    t.equal(of(at('10.0.3.1:3128'), at('127.0.0.1:5')), undefined, 'what counts is where it came in');
    t.equal(
      of({ address: '', port: 0 }, { address: '', port: 0 }),
      undefined,
      'a socket that is gone is nobody',
    );
  },
);

t.test(
  'a declared source is known at its listener only, and takes the place of `local` there (feature 11)',
  async (t) => {
    const of = bindPrincipals([
      { name: 'one', source: '10.0.3.2/32', listen: '10.0.3.1:3128' },
      { name: 'wide', source: '10.0.0.0/8', listen: null },
      { name: 'six', source: '2001:db8::/32', listen: null },
    ]);
    t.same(of(at('10.0.3.1:3128'), at('10.0.3.2:5')), { name: 'one' }, 'the first that holds');
    t.same(of(at('10.0.3.1:5432'), at('10.0.3.2:5')), { name: 'wide' });
    t.same(of(at('[2001:db8::1]:3128'), at('[2001:db8::2]:5')), { name: 'six' });
    t.equal(of(at('10.0.3.1:3128'), at('192.168.0.1:5')), undefined);
    t.equal(
      of(at('127.0.0.1:3128'), at('127.0.0.1:5')),
      undefined,
      'a binding for every listener speaks of loopback too',
    );
  },
);

t.test('a source that is no CIDR range does not start', async (t) => {
  for (const source of ['10.0.0.1/8', '0.0.0.0/0', 'x', '10.0.0.0/33', '']) {
    t.throws(() => bindPrincipals([{ name: 'x', source, listen: null }]), /principal `x`[^]*help: /u, source);
  }
});

t.test('an end of a connection has one spelling, mapped addresses included', async (t) => {
  t.equal(formatEndpoint('::ffff:127.0.0.1', 80), '127.0.0.1:80');
  t.equal(formatEndpoint('::1', 80), '[::1]:80');
  t.ok(
    isLoopback('::ffff:127.9.9.9') &&
      isLoopback('::1') &&
      !isLoopback('128.0.0.1') &&
      !isLoopback('127.evil.1.1'),
  );
  for (const bad of [
    '127.0.0.1',
    ':80',
    '::1:80',
    '[::1%lo]:80',
    '127.1:80',
    'localhost:80',
    '1.2.3.4:65536',
    '[1.2.3.4:80',
  ]) {
    t.throws(() => parseEndpoint(bad), /help: /u, bad);
  }
});
