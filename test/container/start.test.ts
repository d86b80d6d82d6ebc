// Everything of the runner that needs no root: names, options, environment, slots, state, resources, workspace, refusals.
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { proxyVariables, sandboxEnvironment, wantedVariables } from '../../container/environment.ts';
import { neighboursOf } from '../../container/gate/place.ts';
import { readService } from '../../container/flag-values.ts';
import { chooseRunId, namesOf } from '../../container/names.ts';
import { aliasesOf, planDoors } from '../../container/doors.ts';
import { readOptions, stateDirectory, type RunFlags } from '../../container/options.ts';
import { policyFacts } from '../../container/policy-facts.ts';
import { readWiring, wiredPorts } from '../../container/wiring.ts';
import { preflight } from '../../container/preflight.ts';
import { RunRefused } from '../../container/refusal.ts';
import { createResources } from '../../container/resource.ts';
import { pool, slotAt, sweepSlots, takeSlot } from '../../container/slot.ts';
import {
  createRunDirectory,
  isAlive,
  listRuns,
  prepareState,
  thisOwner,
  type RunRecord,
} from '../../container/state.ts';
import { checkWorkspace } from '../../container/workspace.ts';
import { parseServiceFlag } from '../../policy/index.ts';

const flags: RunFlags = { policy: 'p.json', service: [], hostPort: [], env: [], resolver: [] };
const root = { environment: {}, uid: 0 };

async function exitOf(work: Promise<unknown>): Promise<number> {
  return await work.then(
    () => 0,
    (error: unknown) => (error instanceof RunRefused ? error.exitCode : -1),
  );
}

function refusedWith(code: number, work: () => unknown): boolean {
  try {
    work();
  } catch (error) {
    return error instanceof RunRefused && error.exitCode === code && error.help.length > 0;
  }
  return false;
}

t.test(
  'a run name that could be a path, an option or too long for a link is refused with status 2',
  async (t) => {
    const bad = [
      '../x',
      '',
      '-x',
      'X',
      'a.b',
      'a/b',
      'a b',
      'a_b',
      '1a',
      'abcdefghijklm',
      'a\n',
      'ä',
      '__proto__',
      'a\0',
    ];
    t.same(
      bad.filter((name) => !refusedWith(2, () => chooseRunId(name))),
      [],
    );
    t.equal(chooseRunId('review1'), 'review1');
    t.match(chooseRunId(undefined), /^r[0-9a-f]{6}$/);
    t.ok(namesOf('abcdefghijkl').link.length <= 15, 'the longest name fits IFNAMSIZ');
  },
);

t.test('bad flags are refused with status 2 and a help line before anything is made', async (t) => {
  const wrong: readonly (readonly [string, Partial<RunFlags>, readonly string[]])[] = [
    ['no command', {}, []],
    ['timeout 0', { timeout: '0' }, ['true']],
    ['timeout of words', { timeout: '1e3' }, ['true']],
    ['negative timeout', { timeout: '-1' }, ['true']],
    ['timeout of a year', { timeout: '31536000' }, ['true']],
    ['host port 0', { hostPort: ['0'] }, ['true']],
    ['host port with a plus', { hostPort: ['+80'] }, ['true']],
    ['host port 65536', { hostPort: ['65536'] }, ['true']],
    ['workspace without a sandbox', { envOnly: true, workspace: '/tmp' }, ['true']],
    ['metrics without a port', { metrics: '127.0.0.1' }, ['true']],
    ['metrics by name', { metrics: 'localhost:9464' }, ['true']],
    ['metrics everywhere', { metrics: '0.0.0.0:9464' }, ['true']],
    ['metrics everywhere, IPv6', { metrics: '[::]:9464' }, ['true']],
    ['resolver without a port', { resolver: ['9.9.9.9'] }, ['true']],
    ['resolver by name', { resolver: ['dns.example:53'] }, ['true']],
    ['resolver on port 0', { resolver: ['127.0.0.1:0'] }, ['true']],
    ['service on one label', { service: ['db=postgres:5432'] }, ['true']],
    ['two services of one alias', { service: ['db=a.example:1', 'db=b.example:2'] }, ['true']],
    ['a variable that is not set', { env: ['NOT_SET'] }, ['true']],
  ];
  t.same(
    wrong
      .filter(
        ([, given, command]) => !refusedWith(2, () => readOptions({ ...flags, ...given }, command, root)),
      )
      .map(([name]) => name),
    [],
  );
  t.equal(readOptions({ ...flags, timeout: '0.5' }, ['true'], root).timeoutMs, 500);
  const named: readonly (readonly [Partial<RunFlags>, RegExp])[] = [
    [{ metrics: 'x' }, /^--metrics `x`/],
    [{ resolver: ['x'] }, /^--resolver `x`/],
    [{ service: ['db=postgres:5432'] }, /^--service `db=postgres:5432` has no domain of two labels/],
    [{ service: ['db=a.example:1', 'db=b.example:2'] }, /^alias `db` is given twice$/],
  ];
  for (const [given, message] of named)
    t.throws(() => readOptions({ ...flags, ...given }, ['true'], root), { message });
});

t.test('the audit file outlives the run: it is not inside the run directory', async (t) => {
  const options = readOptions({ ...flags, name: 'keep' }, ['true'], {
    environment: { SALLYPORT_STATE_DIR: '/s' },
    uid: 0,
  });
  t.equal(options.audit, '/s/audit/keep.jsonl');
  t.equal(stateDirectory(root), '/run/sallyport');
  t.equal(stateDirectory({ environment: { HOME: '/home/u' }, uid: 5 }), '/home/u/.local/state/sallyport');
});

t.test('a service is an alias with one host and one port; two on the same port are refused', async (t) => {
  const good = [
    'db=db.corp.example:5432',
    'db=db.corp.example:5432@10.98.0.2',
    'db=db.corp.example:5432@10.98.0.0/30,fd00::/64',
    'db=10.98.0.2:5432',
    'db=[fd00::1]:5432',
  ];
  for (const text of good) {
    t.match(readService(text), { name: 'db', port: 5432, text });
    t.match(parseServiceFlag(text), { name: 'db', port: 5432 }, 'as the policy reads it');
  }
  const bad = [
    'db',
    'db=x',
    'db=:1',
    'DB=x:1',
    'd b=x:1',
    'db=x:0',
    'db=x:99999',
    '=x:1',
    'a.b=x:1',
    '../a=x:1',
    'db=db.example:1@',
    'db=db.example:1@other.example',
    'db=db.example:1@10.0.0.0/8/8',
    'db=db.example:1@10.0.0.1@10.0.0.2',
    'db=10.0.0.0/8:1',
    'db=*.example:1',
  ];
  t.same(
    bad.filter((text) => !refusedWith(2, () => readService(text))),
    [],
  );
});

t.test('a port that is wanted twice is served at an address of its own, and only such a port', async (t) => {
  const slot = slotAt(0);
  const service = (name: string, port: number) => ({ name, port });
  const wired = wiredPorts('both', [443, 8443], 3128);
  const one = planDoors(slot, { services: [service('db', 5432)], hostPorts: [8080] }, wired);
  t.same(one, {
    ports: [3128, 5432, 8080, 443, 80, 8443, 53],
    services: [],
    hosts: [{ address: '10.219.0.1', names: ['db', 'host.sallyport'] }],
    serviceAt: [],
  });
  const services = [
    service('orders', 5432),
    service('users', 5432),
    service('web', 443),
    service('old', 3128),
    service('third', 5432),
    service('cache', 6379),
  ];
  const many = planDoors(slot, { services, hostPorts: [8443, 9000] }, wired);
  t.same(many, {
    ports: [3128, 5432, 6379, 443, 80, 8443, 53],
    services: [
      { address: '10.219.0.3', ports: [5432, 443, 3128, 8443, 9000] },
      { address: '10.219.0.4', ports: [5432] },
    ],
    hosts: [
      { address: '10.219.0.1', names: ['orders', 'cache'] },
      { address: '10.219.0.3', names: ['users', 'web', 'old', 'host.sallyport'] },
      { address: '10.219.0.4', names: ['third'] },
    ],
    serviceAt: [
      { name: 'users', address: '10.219.0.3' },
      { name: 'web', address: '10.219.0.3' },
      { name: 'old', address: '10.219.0.3' },
      { name: 'third', address: '10.219.0.4' },
      { name: 'host-8443', address: '10.219.0.3' },
      { name: 'host-9000', address: '10.219.0.3' },
    ],
  });
  const crowd = (count: number) => ({
    services: Array.from({ length: count }, (_, i) => service(`db${i}`, 5432)),
    hostPorts: [],
  });
  t.equal(planDoors(slot, crowd(13), wired).services.length, 12);
  t.ok(refusedWith(2, () => planDoors(slot, crowd(14), wired)));
  t.same(aliasesOf({ services: [service('db', 5432)], hostPorts: [80] }), ['db', 'host.sallyport']);
  t.ok(refusedWith(2, () => aliasesOf({ services: [], hostPorts: [80, 80] })));
});

t.test('the environment is built from nothing: only what was asked for by name comes in', async (t) => {
  const proxy = { address: '10.219.0.1', port: 3128 };
  const spec = { id: 'r1', proxy, direct: ['db'], wiring: 'both' } as const;
  const caller = { FOO: '1', SECRET: 's', LD_PRELOAD: '/x.so', TERM: 'xterm', PATH: '/evil', HOME: '/root' };
  const none = sandboxEnvironment({ ...spec, wanted: [], caller });
  t.notOk(none.has('FOO') || none.has('SECRET') || none.has('LD_PRELOAD'));
  t.equal(none.get('HOME'), '/home/agent');
  t.notMatch(none.get('PATH'), /evil/);
  const some = sandboxEnvironment({ ...spec, wanted: ['FOO', 'BAR=a=b $(x)\n'], caller });
  t.equal(some.get('FOO'), '1');
  t.equal(some.get('BAR'), 'a=b $(x)\n');
  const bad = [
    '',
    '=x',
    '1A=x',
    'A-B=x',
    'A B=x',
    'SALLYPORT_RUN=x',
    'SPENV_X=1',
    'NOT_SET',
    'HTTPS_PROXY=x',
    'A\0=x',
    'É=x',
  ];
  t.same(
    bad.filter((name) => !refusedWith(2, () => sandboxEnvironment({ ...spec, wanted: [name], caller }))),
    [],
  );
});

t.test('the wiring says which ports lead out and whether variables tell of them', async (t) => {
  t.same(wiredPorts('env', [443, 8443], 3128), { transparent: [], dns: [] });
  t.same(wiredPorts('both', [443, 8443, 53, 3128], 3128), {
    transparent: [443, 80, 8443],
    dns: [53],
  });
  t.same(wiredPorts('transparent', [], 3128), { transparent: [443, 80], dns: [53] });
  t.ok(refusedWith(2, () => readWiring('none')));
  const spec = { id: 'r1', proxy: { address: '10.219.0.1', port: 3128 }, direct: [], wanted: [], caller: {} };
  const names = [...sandboxEnvironment({ ...spec, wiring: 'transparent' }).keys()];
  t.same(
    names.filter((name) => /proxy|java/i.test(name)),
    [],
  );
  t.ok(names.includes('SALLYPORT_RUN'));
  t.ok(sandboxEnvironment({ ...spec, wiring: 'both' }).has('https_proxy'));
});

t.test('proxy variables come in both cases, with the switches of Node and the JVM', async (t) => {
  const variables = proxyVariables({
    id: 'r1',
    proxy: { address: '10.219.0.1', port: 3128 },
    direct: ['db'],
  });
  for (const name of ['http_proxy', 'https_proxy', 'all_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY']) {
    t.equal(variables.get(name), 'http://10.219.0.1:3128', name);
  }
  t.match(variables.get('no_proxy'), /(^|,)db(,|$)/);
  t.equal(variables.get('no_proxy'), variables.get('NO_PROXY'));
  t.equal(variables.get('NODE_USE_ENV_PROXY'), '1');
  t.match(variables.get('JAVA_TOOL_OPTIONS'), /-Dhttps\.proxyHost=10\.219\.0\.1 -Dhttps\.proxyPort=3128/);
  t.equal(variables.get('SALLYPORT_RUN'), 'r1');
  const asked = [...variables.keys()].map((name) => () => wantedVariables([`${name}=x`], {}));
  t.ok(
    asked.every((ask) => refusedWith(2, ask)),
    'none of them can be asked for: it would be lost, or lead past the proxy to nowhere',
  );
});

t.test('slots are distinct /28s inside the pool, and the lateral probe aims at another one', async (t) => {
  t.equal(pool, '10.219.0.0/16');
  t.match(slotAt(0), { proxy: '10.219.0.1', sandbox: '10.219.0.2', prefixLength: 28 });
  t.match(slotAt(4095), { proxy: '10.219.255.241', sandbox: '10.219.255.242' });
  const all = Array.from({ length: 4096 }, (_, n) => slotAt(n)).flatMap((slot) => [
    slot.proxy,
    slot.sandbox,
    ...slot.services,
  ]);
  t.equal(new Set(all).size, 14 * 4096);
  for (const number of [0, 1, 2048, 4095]) {
    const slot = slotAt(number);
    const { next, far } = neighboursOf(slot);
    t.equal(new Set([slot, next, far].map(({ sandbox }) => sandbox)).size, 3);
    t.ok([next, far].every(({ sandbox }) => all.includes(sandbox)));
  }
});

t.test('a slot is taken by one run only, freed by its release, and swept when its run is gone', async (t) => {
  const paths = await prepareState(temporary(t));
  mkdirSync(join(paths.runs, 'alive'));
  const none = new Set<string>();
  const taken = await Promise.all(
    ['alive', 'alive', 'alive', 'dead'].map(async (id) => await takeSlot(paths, id, none)),
  );
  t.equal(new Set(taken.map((slot) => slot.number)).size, 4);
  t.equal(
    (await takeSlot(paths, 'alive', new Set([slotAt(4).proxy]))).number,
    5,
    'an address of this machine is passed over',
  );
  await taken[0]?.release();
  await sweepSlots(paths);
  const left = readdirSync(paths.slots).map((name) => readlinkSync(join(paths.slots, name)));
  t.same(left, ['alive', 'alive', 'alive']);
});

t.test('a name is in use as long as its run directory is there', async (t) => {
  const paths = await prepareState(temporary(t));
  const record: RunRecord = { id: 'one', owner: thisOwner(), hostNetns: 'net:[1]', sandboxNetns: null };
  await createRunDirectory(paths, record);
  t.equal(await exitOf(createRunDirectory(paths, record)), 2);
  mkdirSync(join(paths.runs, 'stray'));
  mkdirSync(join(paths.runs, 'lied'));
  writeFileSync(join(paths.runs, 'lied', 'run.json'), JSON.stringify({ ...record, id: '../../etc' }));
  const { records, strays } = await listRuns(paths);
  t.same(records, [record]);
  t.same([...strays].toSorted(), ['lied', 'stray'], 'a record that names another directory is not believed');
});

t.test('a process that only has the same number as the owner of a run is not its owner', async (t) => {
  const owner = thisOwner();
  t.ok(isAlive(owner));
  t.notOk(isAlive({ ...owner, start: '1' }), 'another start time');
  t.notOk(isAlive({ ...owner, boot: 'other' }), 'another boot');
  t.notOk(isAlive({ ...owner, pid: 4_194_304 }), 'no such process');
});

t.test(
  'resources are released in reverse, once each, even when one fails and when one comes late',
  async (t) => {
    const order: string[] = [];
    const resources = createResources();
    const add = async (name: string, fail = false): Promise<void> =>
      await resources.add({
        name,
        release: () => {
          order.push(name);
          if (fail) throw new Error('stuck');
        },
      });
    await add('first');
    await add('second', true);
    await add('third');
    const [failures] = await Promise.all([resources.releaseAll(), resources.releaseAll()]);
    await add('late');
    await resources.releaseAll();
    t.same(order, ['third', 'second', 'first', 'late']);
    t.same(
      failures.map(({ name }) => name),
      ['second'],
    );
  },
);

t.test(
  'a workspace that is the system, leads into it, or holds a socket is refused with status 2',
  async (t) => {
    const dir = temporary(t);
    const link = join(dir, 'link');
    symlinkSync('/etc', link);
    const file = join(dir, 'file');
    writeFileSync(file, '');
    const agent = join(dir, 'agent');
    mkdirSync(agent);
    const server = createServer().listen(join(agent, 'agent.sock'));
    await once(server, 'listening');
    t.teardown(() => server.close());
    const bad = [
      '/',
      '/etc',
      '/usr/share',
      '/var/run',
      '/run',
      '/proc/self',
      '/nix',
      link,
      file,
      agent,
      dir,
      join(agent, 'agent.sock'),
      join(dir, 'none'),
      '/tmp',
      '/home',
    ];
    for (const path of bad) t.equal(await exitOf(checkWorkspace(path)), 2, path);
    const good = join(dir, 'good');
    mkdirSync(good);
    t.equal((await checkWorkspace(good)).path, good);
    mkdirSync(join(good, 'a/b'), { recursive: true });
    t.equal(await exitOf(checkWorkspace(good, 1)), 2, 'more than can be looked at');
    const deep = createServer().listen(join(good, 'a/b/agent.sock'));
    await once(deep, 'listening');
    t.teardown(() => deep.close());
    t.equal(await exitOf(checkWorkspace(good)), 2, 'a socket three levels down');
  },
);

t.test('without root or without a tool there is no weaker run: status 69 says what to do', async (t) => {
  const path = process.env['PATH'] ?? '';
  t.ok(refusedWith(69, () => preflight({ uid: 1000, path })));
  t.throws(() => preflight({ uid: 1000, path }), /root/);
  t.ok(refusedWith(69, () => preflight({ uid: 0, path: '/nonexistent' })));
  t.throws(() => preflight({ uid: 0, path: '/nonexistent' }), /nft/);
});

t.test('the gate tries a name that the policy really allows by its exact spelling', async (t) => {
  const policy = (document: object): string =>
    JSON.stringify({ version: 1, deny: [], allow: [], services: [], ...document });
  t.equal(policyFacts(policy({})).allowed, null);
  t.equal(policyFacts(policy({ allow: [{ host: '*.x.example' }] })).allowed, null);
  const allow = [
    { host: '*.x.example' },
    { host: 'denied.example' },
    { host: 'deep.under.example' },
    { host: 'plain.example', protocol: 'http' },
    { host: 'a.example', ports: [8443] },
  ];
  const deny = [{ host: 'denied.example' }, { host: '*.under.example' }];
  t.same(policyFacts(policy({ allow, deny })).allowed, { host: 'a.example', port: 8443 });
  const services = [{ name: 'db', host: 'db.example', port: 5432 }];
  t.same(policyFacts(policy({ services })).services, [{ name: 'db', port: 5432 }]);
  const ports = [
    { host: 'a.example' },
    { host: 'b.example', ports: [443, 8443] },
    { host: 'c.example', protocol: 'http' },
    { host: 'd.example', ports: [80, 8080], protocol: 'http' },
  ];
  t.same(
    policyFacts(policy({ allow: ports })).ports,
    [443, 8443, 80, 8080],
    'without ports 443, or 80 for plain HTTP',
  );
});

function temporary(t: { teardown(handler: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'sallyport-test-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
