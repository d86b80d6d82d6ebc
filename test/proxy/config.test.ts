// Holds where settings come from, which source wins, and that a setting that cannot be used is refused with its remedy.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ConfigError, type Given, loadSettings } from '../../proxy/config.ts';
import { isWildcard } from '../../proxy/config-network.ts';
import { configPage, defaultOf, showJson, showLines } from '../../proxy/config-page.ts';
import { readTold } from '../../proxy/config-sources.ts';
import { flagOf, settingKeys, settingTable } from '../../proxy/config-table.ts';

interface Sources {
  readonly flags?: Readonly<Record<string, readonly string[]>>;
  readonly env?: Given['env'];
  readonly file?: unknown;
}

/** Policy is given unless a test gives its own sources for it. */
function given(t: Test, { flags = {}, env = {}, file }: Sources): Given {
  const all = new Map(Object.entries({ policy: ['p.json'], ...flags }));
  if (file === undefined) return { flags: all, env, file: null };
  const path = join(t.testdir(), 'config.json');
  writeFileSync(path, typeof file === 'string' ? file : JSON.stringify(file));
  return { flags: all, env, file: path };
}

function problems(t: Test, sources: Sources): readonly string[] {
  try {
    loadSettings(given(t, sources));
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    t.ok(
      error.problems.every(({ help }) => help !== ''),
      'each problem has its help',
    );
    return error.problems.map(({ message }) => message);
  }
}

t.test(
  'a flag wins over the environment, that over the file, that over the default; each origin is told',
  (t) => {
    const sources = given(t, {
      flags: { idleTimeoutMs: ['1'] },
      env: { SALLYPORT_IDLE_TIMEOUT_MS: '2', SALLYPORT_MAX_TUNNELS: '22' },
      file: { idleTimeoutMs: 3, maxTunnels: 33, dnsTimeoutMs: 333 },
    });
    const { told, origins } = readTold(sources);
    t.match(told, { idleTimeoutMs: 1, maxTunnels: 22, dnsTimeoutMs: 333, helloBytes: 32_768 });
    t.equal(origins.get('idleTimeoutMs'), 'flag --idle-timeout-ms');
    t.equal(origins.get('maxTunnels'), 'environment SALLYPORT_MAX_TUNNELS');
    t.match(origins.get('dnsTimeoutMs'), /^file .*config\.json "dnsTimeoutMs"$/);
    t.equal(origins.get('helloBytes'), 'default');
    t.match(showLines(told, origins, true), /^maxTunnels +22 {2}\(environment SALLYPORT_MAX_TUNNELS\)$/m);
    t.match(JSON.parse(showJson(told, origins, true)), { maxTunnels: { value: 22, origin: /SALLYPORT/ } });
    t.match(JSON.parse(showJson(told, origins, false)), { maxTunnels: 22, listen: ['127.0.0.1:3128'] });
    t.end();
  },
);

t.test('a flag can unset what the file has set', (t) => {
  const file = { metrics: '127.0.0.1:9464', hosts: null };
  t.match(loadSettings(given(t, { file })), { metrics: '127.0.0.1:9464', hosts: null });
  t.match(loadSettings(given(t, { file, flags: { metrics: ['none'] } })), { metrics: null });
  t.end();
});

t.test('lists, principals and services are read alike from every source', (t) => {
  const principals = [{ name: 'web', source: '10.0.3.0/24', listen: '10.0.3.1:3128' }];
  const services = ['db=db.corp.example:5432'];
  const file = { listen: ['10.0.3.1:3128', '[::1]:3128'], principals, services, serviceListen: '10.0.3.1' };
  const fromFile = loadSettings(given(t, { file }));
  const env = {
    SALLYPORT_LISTEN: '10.0.3.1:3128,[0:0:0:0:0:0:0:1]:3128',
    SALLYPORT_PRINCIPAL: 'web=10.0.3.0/24@10.0.3.1:3128',
    SALLYPORT_SERVICE: 'db=db.corp.example:5432',
    SALLYPORT_SERVICE_LISTEN: '10.0.3.1',
  };
  t.same(loadSettings(given(t, { env })), fromFile);
  t.same(fromFile.principals, principals);
  t.match(fromFile.services, [{ name: 'db', host: 'db.corp.example', port: 5432 }]);
  t.same(
    loadSettings(given(t, { file: { principals: [{ name: 'a', source: '10.0.0.2/32' }] } })).principals,
    [{ name: 'a', source: '10.0.0.2/32', listen: null }],
  );
  t.end();
});

t.test('a host port is a service of this machine, and needs an address to be served on', (t) => {
  const flags = { hostPorts: ['5432'], serviceListen: ['10.0.3.1'] };
  t.match(loadSettings(given(t, { flags })).services, [
    { name: 'host-5432', host: '127.0.0.1', port: 5432, loopback: true },
  ]);
  t.match(problems(t, { flags: { hostPorts: ['5432'] } }), [/no address to serve them on/]);
  t.end();
});

t.test('a service may have an address of its own, which is read alike from every source', (t) => {
  const places = [
    { name: 'orders-db', address: '127.0.0.2' },
    { name: 'users-db', address: '::1' },
  ];
  const spelled = ['orders-db=127.0.0.2', 'users-db=0:0:0:0:0:0:0:1'];
  for (const from of [
    { flags: { serviceAt: spelled } },
    { env: { SALLYPORT_SERVICE_AT: spelled.join() } },
    { file: { serviceAt: spelled } },
    { file: { serviceAt: places } },
  ])
    t.same(loadSettings(given(t, from)).serviceAt, places);
  const hostPorts = ['5432'];
  t.same(problems(t, { flags: { hostPorts, serviceAt: ['host-5432=127.0.0.2'] } }), [], 'no other is needed');
  t.match(problems(t, { flags: { hostPorts, serviceAt: ['db=127.0.0.2'] } }), [
    /no address to serve them on/,
  ]);
  t.match(problems(t, { flags: { serviceAt: ['db=127.0.0.2', 'db=127.0.0.3'] } }), [
    /`db` is given two addresses/,
  ]);
  t.match(problems(t, { flags: { serviceAt: ['db=0.0.0.0'] } }), [/every network/]);
  t.end();
});

t.test('a wildcard bind must be asked for by name, in any spelling', (t) => {
  const spellings = ['0.0.0.0:1', '[::]:1', '[0:0:0:0:0:0:0:0]:1', '[::ffff:0.0.0.0]:1', '[::ffff:0:0]:1'];
  t.same(
    spellings.filter((one) => problems(t, { flags: { listen: [one] } }).length === 0),
    [],
  );
  t.same(
    spellings.filter((one) => problems(t, { flags: { metrics: [one] } }).length === 0),
    [],
  );
  t.match(problems(t, { flags: { serviceListen: ['::'] } }), [/every network/]);
  t.same(problems(t, { flags: { listen: ['0.0.0.0:1'], allowWildcard: ['true'] } }), []);
  t.same(
    ['127.0.0.1:0', '[::1]:0', '10.0.0.0:1', '[::ffff:1.0.0.0]:1', 'not an address'].filter(isWildcard),
    [],
  );
  t.end();
});

t.test('what cannot be used is refused, all of it at once, with the source it came from', (t) => {
  const found = problems(t, {
    flags: { maxTunnels: ['0'], listen: ['localhost:1'] },
    env: { SALLYPORT_ENFORCEMENT: 'strong', SALLYPORT_METRICS: '' },
    file: { hints: 'yes', readyFd: 1.5, principals: [{ name: 'a', source: '10.0.0.1/24' }] },
  });
  t.match(found, [
    /^flag --listen: `localhost:1` is not an address/,
    /^file .* "principals": .*bits are set/,
    /^environment SALLYPORT_METRICS: ``/,
    /^file .* "readyFd"/,
    /^file .* "hints": this is not true or false/,
    /^environment SALLYPORT_ENFORCEMENT: `strong` is not known/,
    /^flag --max-tunnels: `0` is out of range/,
  ]);
  t.equal(found.length, 7);
  t.end();
});

t.test('numbers, endpoints, names and users have one spelling', (t) => {
  const bad: Readonly<Record<string, readonly string[]>> = {
    maxTunnels: ['-1', '1e3', '0x10', '01', ' 1', '1.0', '', '999999999'],
    listen: [
      '127.0.0.1',
      '127.0.0.1:65536',
      '127.1:80',
      '::1:80',
      '[::1%lo]:80',
      '127.0.0.1:080',
      '2130706433:1',
      'a.example:80',
    ],
    serviceListen: ['127.0.0.1:1', 'db', ''],
    serviceAt: ['127.0.0.1', 'db', 'db=', '=127.0.0.1', 'db=127.0.0.1:1', 'DB=127.0.0.1', 'a.b=127.0.0.1'],
    user: ['0:0', '65534', 'nobody:nogroup', '1:0'],
    run: ['../up', '', 'a b', '-a'],
    principals: ['a', '=10.0.0.0/8', 'a=0.0.0.0/0', 'a=10.0.0.0/8@here', 'a b=10.0.0.0/8'],
    services: ['db', 'db=10.0.0.0/8:1', 'db=*.example.com:1', 'DB=a.example.com:1'],
    readyFd: ['0', '2', '-1'],
    policy: [''],
  };
  const taken = Object.entries(bad).flatMap(([key, values]) =>
    values
      .filter((value) => problems(t, { flags: { serviceListen: ['10.0.0.1'], [key]: [value] } }).length === 0)
      .map((value) => `${key}=${value}`),
  );
  t.same(taken, []);
  t.match(problems(t, { flags: { run: ['a', 'b'] } }), [/this is one value/]);
  t.end();
});

t.test('policy is not configuration: a file with rules, unknown keys or no object is refused', (t) => {
  t.match(problems(t, { file: { allow: [], maxTunnels: 1 } }), [/`allow` is not a setting/]);
  t.match(problems(t, { file: '{"__proto__": {"listen": ["0.0.0.0:1"]}}' }), [
    /`__proto__` is not a setting/,
  ]);
  t.match(problems(t, { file: '[]' }), [/not an object/]);
  t.match(problems(t, { file: '' }), [/is not JSON/]);
  t.match(problems(t, { file: '{} {}' }), [/is not JSON/]);
  t.match(problems(t, { file: '{"maxTunnels": 1, "hints": true, "maxTunnels": 9}' }), [
    /`.*config\.json` is not JSON settings: \/maxTunnels this key stands twice in one object$/,
  ]);
  t.match(problems(t, { file: '{"principals": [{"name": "a", "name": "b", "source": "10.0.0.2/32"}]}' }), [
    /\/principals\/0\/name this key stands twice/,
  ]);
  t.match(problems(t, { env: { SALLYPORT_CONFIG: '/nowhere/config.json' } }), [/cannot be read/]);
  t.throws(() => loadSettings({ flags: new Map(), env: {}, file: null }), {
    message: /no policy was given\nhelp: give --policy/,
  });
  t.end();
});

t.test('every setting has its own flag and variable, and the page shows each with its default', (t) => {
  const rows = settingKeys.map((key) => settingTable[key]);
  t.equal(new Set(rows.map(({ flag }) => flag)).size, rows.length);
  t.equal(new Set(rows.map(({ env }) => env)).size, rows.length);
  const page = configPage();
  const missing = settingKeys.filter(
    (key) => !page.includes(`| \`${key}\` | \`${flagOf(key)}\` |`) || !page.includes(`\`${defaultOf(key)}\``),
  );
  t.same(missing, []);
  t.end();
});

t.test('each default is a value that its own reader takes', (t) => {
  const wrong = settingKeys.filter((key) => {
    const shown = defaultOf(key);
    const { read } = settingTable[key];
    if (read.isList && shown === 'none') return false;
    return read.show(read.text([shown]) as never) !== shown;
  });
  t.same(wrong, []);
  t.end();
});
