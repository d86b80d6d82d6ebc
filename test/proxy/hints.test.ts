// A refusal without hints, in every way that it is told in HTTP: it holds the name that was asked for and no other of the policy.
import { once } from 'node:events';
import { createServer } from 'node:net';
import t from 'tap';
import { dialProxy } from '../helpers/proxy-client.ts';
import { startTestProxy, type TestProxy } from '../helpers/proxy.ts';
import { readAll } from '../helpers/tcp.ts';

const reason = 'kept to ourselves';

const documentFor = (port: number) => ({
  allow: [
    { id: 'rule-of-api', host: 'api.secret.test', reason, group: 'inner-circle' },
    { host: '*.wild.test', reason, ports: [8443] },
    { host: 'plain.test', reason, protocol: 'http', ports: [80, port] },
    { host: 'lost.test', reason, ports: [443, port] },
    { host: 'lost-plain.test', reason, protocol: 'http', ports: [80, port] },
  ],
  deny: [{ id: 'no-trackers', host: '*.denied.test', reason }],
  services: [{ name: 'orders-db', host: 'db.secret.test', port: 5432, reason }],
});

/** Whatever of the policy is a name. */
const names = [
  'api.secret.test',
  'rule-of-api',
  'inner-circle',
  'wild.test',
  'plain.test',
  'lost.test',
  'no-trackers',
  'denied.test',
  'orders-db',
  'db.secret.test',
  reason,
];

/** Each is refused, or fails: for a similar name, a wildcard's own, a denied one, another port, an address, a label, a URL, a lost host. */
const targets = [
  'apl.secret.test:443',
  'www.api.secret.test:443',
  'api.secret.test:22',
  'wild.test:8443',
  'a.wild.test:443',
  'x.denied.test:443',
  'db.secret.test:5432',
  '192.0.2.7:443',
  'api:443',
  'https://api.secret.test',
  'lost.test:443',
];

/** How each target can be asked for, and at which of the two ports. */
const ways: readonly (readonly [what: string, port: 'proxy' | 'transparent', (target: string) => string])[] =
  [
    ['CONNECT', 'proxy', (target) => `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`],
    ['absolute form', 'proxy', (target) => `GET http://${target}/ HTTP/1.1\r\nHost: ${target}\r\n\r\n`],
    ['transparent', 'transparent', (target) => `GET / HTTP/1.1\r\nHost: ${target}\r\n\r\n`],
  ];

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  server.close();
  await once(server, 'close');
  return typeof bound === 'object' && bound !== null ? bound.port : 0;
}

interface Place {
  readonly proxy: TestProxy;
  readonly transparent: number;
}

async function refusals({ proxy, transparent }: Place): Promise<ReadonlyMap<string, string>> {
  const all = new Map<string, string>();
  for (const [what, port, request] of ways)
    for (const asked of [...targets, 'lost-plain.test:80']) {
      // There the port is the one that was come to.
      const target = port === 'transparent' ? asked.replace(/:\d+$/, `:${transparent}`) : asked;
      const socket = await dialProxy(port === 'proxy' ? proxy.port : transparent);
      socket.write(request(target));
      all.set(`${what} ${target}`, (await readAll(socket)).toString('latin1'));
      socket.destroy();
    }
  return all;
}

/** Names of the policy in `said` beside those of `target`. */
function others(target: string, said: string): readonly string[] {
  return names.filter((name) => said.replaceAll(target, '').includes(name) && !target.includes(name));
}

t.test('hints name what is near, and without them no refusal names anything but the target', async (t) => {
  for (const hints of [true, false]) {
    const transparent = await freePort();
    const settings = { hints, transparent: [`127.0.0.1:${transparent}`] };
    const proxy = await startTestProxy(t, { policy: documentFor(transparent), settings });
    const all = await refusals({ proxy, transparent });
    const told = [...all].map(([asked, said]) => ({ asked, said, others: others(asked, said) }));
    for (const { asked, said } of told) {
      t.match(said, /^HTTP\/1\.1 [45]\d\d /, asked);
      const body = JSON.parse(said.slice(said.indexOf('\r\n\r\n'))) as Record<string, unknown>;
      const extra = ['hint', 'didYouMean', 'howToRequest', 'rule'].filter((key) => key in body);
      t.ok(hints ? extra.includes('hint') : extra.length === 0, `${asked}: ${extra.join()}`);
    }
    const giving = told.filter((one) => one.others.length > 0).map(({ asked }) => asked);
    if (hints) t.ok(giving.length >= 9, `the hints do name others: ${giving.join(', ')}`);
    else t.same(giving, []);
  }
});
