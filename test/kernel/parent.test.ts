// A run on a machine whose only way out is a proxy of the house, which wants a name and a password. They must reach it, and nobody else.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { findProgram, needs } from '../helpers/needs.ts';
import { run, type Netns } from '../helpers/netns.ts';
import { makeWorld, worldNeeds, type World } from './world.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

const credentials = 'agent 7:s3cr%t@:x';
const basic = Buffer.from(credentials).toString('base64');
/** Neither of them may be anywhere but in the file, on the wire to the parent, and in the memory of the proxy. */
const secrets = ['s3cr', basic];

/** Answers CONNECT alone, for whoever has `credentials`, and says each on a line. Ends with its stdin. */
const parentCode = `
process.stdin.resume().on('close', () => process.exit())
const net = require('node:net'), [, at, wanted] = process.argv
require('node:http').createServer((ask, answer) => { answer.statusCode = 405; answer.end() }).on('connect', (ask, socket) => {
  const isKnown = ask.headers['proxy-authorization'] === 'Basic ' + wanted
  console.log(ask.url, isKnown ? 'known' : 'unknown')
  socket.on('error', () => {})
  if (!isKnown) return socket.end('HTTP/1.1 407 Proxy Authentication Required\\r\\n\\r\\n')
  const [host, port] = ask.url.split(':')
  const far = net.connect(port, host, () => { socket.write('HTTP/1.1 200 OK\\r\\n\\r\\n'); far.pipe(socket).pipe(far) })
  far.on('error', () => socket.destroy())
}).listen(3129, at, () => console.log('up'))
`;

/** Starts Squid, as nobody. Gives what it has logged. */
async function startSquid({ outside, dir }: World): Promise<() => readonly string[]> {
  const home = join(dir, 'squid');
  const [user = '', password = ''] = credentials.split(/:(.*)/u);
  const { stdout } = await run(['openssl', 'passwd', '-apr1', password]);
  const config = [
    'http_port 10.98.0.2:3130',
    `auth_param basic program /usr/lib/squid/basic_ncsa_auth ${home}/users`,
    'acl known proxy_auth REQUIRED',
    'http_access allow known',
    'http_access deny all',
    'visible_hostname parent.test',
    'pid_filename none',
    'cache deny all',
    `access_log stdio:${home}/access.log`,
    `cache_log ${home}/cache.log`,
    `coredump_dir ${home}`,
  ];
  await outside.must(['install', '-d', '-o', '65534', '-g', '65534', home]);
  writeFileSync(join(home, 'users'), `${user}:${stdout}`);
  writeFileSync(join(home, 'squid.conf'), `${config.join('\n')}\n`);
  const asNobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
  outside.start([...asNobody, 'squid', '-N', '-f', join(home, 'squid.conf')]);
  await outside.listening(3130);
  return () =>
    readFileSync(join(home, 'access.log'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.replaceAll(/ +/g, ' ').split(' ').slice(3, 8).join(' '));
}

/** Every place of this kind that holds a secret, of all processes there are. */
function processesThatTell(what: 'cmdline' | 'environ'): readonly string[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  return pids.filter((pid) => {
    try {
      const text = readFileSync(`/proc/${pid}/${what}`, 'latin1');
      return secrets.some((secret) => text.includes(secret)) && !text.includes('--of-the-test');
    } catch {
      return false;
    }
  });
}

async function filesThatTell(directory: string): Promise<string> {
  const patterns = secrets.flatMap((secret) => ['-e', secret]);
  return (await run(['grep', '-rlF', ...patterns, directory])).stdout;
}

t.test('behind a parent proxy', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);
  await onlyTheParent(world.host);
  const file = join(world.dir, 'credentials');
  writeFileSync(file, `${credentials}\n`, { mode: 0o600 });
  const parent = world.outside.start([
    process.execPath,
    '-e',
    parentCode,
    '10.98.0.2',
    basic,
    '--of-the-test',
  ]);
  await parent.line((line) => line === 'up');
  const trusting = ['--workspace', world.workspace, '--env', 'CURL_CA_BUNDLE=/workspace/ca.pem'];
  const service = ['--service', `db=${world.address}:5432`];
  const script = [
    'curl -sS https://good.test && echo " allowed"',
    'curl -sS -o /dev/null -w "%{http_connect}\\n" https://bad.test 2>/dev/null',
    'nc -w3 db 5432 </dev/null',
    'cat /proc/*/environ 2>/dev/null | tr "\\0" "\\n" | grep -ciE "s3cr|10.98.0.2|SALLYPORT_PARENT"; echo end',
  ].join('\n');

  t.test(
    'what is allowed goes through it, by the judged address; what is not, it never hears of',
    async (t) => {
      const asked = parent.lines.length;
      const { stdout, stderr, report } = await world.sallyport(
        ['--parent', 'http://10.98.0.2:3129', '--parent-credentials', file, ...trusting, ...service],
        ['sh', '-c', script],
      );
      t.equal(stdout, 'origin allowed\n403\nservice\n0\nend\n', stderr);
      const heard = new Set(parent.lines.slice(asked));
      t.same(heard, new Set(['1.2.3.4:443 known', '1.2.3.4:5432 known']), 'no name, and nothing of bad.test');
      const told = stdout + stderr + readFileSync(report.audit, 'utf8');
      t.notOk(secrets.some((secret) => told.includes(secret)));
    },
  );

  t.test('the password is in no list of processes, no file of the run and no environment', async (t) => {
    const live = world.start(
      ['--parent', 'http://10.98.0.2:3129', '--parent-credentials', file, '--name', world.name('quiet')],
      ['sh', '-c', 'echo begun; sleep 60'],
    );
    await live.line('begun');
    t.same([processesThatTell('cmdline'), processesThatTell('environ')], [[], []]);
    t.equal(await filesThatTell(world.state), '');
    live.child.kill('SIGTERM');
    await live.ended;
    t.equal(await filesThatTell(world.state), '');
    t.notOk(secrets.some((secret) => live.lines.join('\n').includes(secret)));
  });

  t.test('the whole URL may come from the environment, and the command does not inherit it', async (t) => {
    const url = `http://${encodeURIComponent(credentials)}@10.98.0.2:3129`;
    const { stdout, stderr } = await world.sallyport([...trusting, ...service], ['sh', '-c', script], {
      SALLYPORT_PARENT: url,
    });
    t.equal(stdout, 'origin allowed\n403\nservice\n0\nend\n');
    t.notOk(secrets.some((secret) => stderr.includes(secret)));
  });

  t.test(
    'a wrong password is a failure of the world, said without it; names are told when asked to',
    async (t) => {
      const wrong = join(world.dir, 'wrong');
      writeFileSync(wrong, 'agent 7:nope7q', { mode: 0o600 });
      const asked = parent.lines.length;
      const curl = 'curl -sS -o /dev/null -w "%{http_connect}\\n" https://good.test 2>/dev/null; true';
      const refused = await world.sallyport(
        ['--parent', 'http://10.98.0.2:3129', '--parent-credentials', wrong, '--parent-resolves-names'],
        ['sh', '-c', curl],
      );
      t.equal(refused.stdout, '502\n');
      t.same(new Set(parent.lines.slice(asked)), new Set(['good.test:443 unknown', 'also.test:443 unknown']));
      t.notMatch(refused.stderr + readFileSync(refused.report.audit, 'utf8'), /agent 7|nope7q/);
    },
  );

  t.test('Squid is such a parent', { skip: findProgram('squid') === undefined && 'no squid' }, async (t) => {
    const logged = await startSquid(world);
    const { stdout, stderr } = await world.sallyport(
      ['--parent', 'http://10.98.0.2:3130', '--parent-credentials', file, ...trusting],
      ['sh', '-c', 'curl -sS https://good.test'],
    );
    t.equal(stdout, 'origin', stderr);
    t.match(logged(), [/TCP_TUNNEL\/200 .* CONNECT 1\.2\.3\.4:443 agent/]);
  });
});

/** The machine has no route but to the parent. */
async function onlyTheParent(host: Netns): Promise<void> {
  await host.must(['ip', 'route', 'del', 'default']);
}

t.test('bad use of it is 2, and repeats no password', { skip: needs(t, worldNeeds) }, async (t: Test) => {
  const world = await makeWorld(t);
  const file = join(world.dir, 'two-lines');
  writeFileSync(file, `${credentials}\nmore`);
  const url = 'http://10.98.0.2:3129';
  const cases: readonly (readonly [options: readonly string[], env: NodeJS.ProcessEnv, said: RegExp])[] = [
    [['--parent', `http://a:s3cr@10.98.0.2:3129`], {}, /others can read/],
    [['--parent', 'https://10.98.0.2:3129'], {}, /not one http URL/],
    [['--parent', 'http://10.98.0.2'], {}, /not one http URL/],
    [['--parent', 'http://10.98.0.2:99999'], {}, /not one http URL/],
    [['--parent-resolves-names'], {}, /no parent proxy/],
    [['--parent-credentials', file], {}, /no parent proxy/],
    [['--parent', url, '--parent-credentials', file], {}, /not one line/],
    [['--parent', url, '--parent-credentials', '/nowhere'], {}, /cannot be read/],
    [['--parent-credentials', file], { SALLYPORT_PARENT: 'http://a:s3cr@x.test:1' }, /two passwords/],
    [[], { SALLYPORT_PARENT: 's3cr' }, /not one http URL/],
    [[], { SALLYPORT_PARENT: 'http://s3cr@x.test:1' }, /not one http URL/],
  ];
  const ends = await Promise.all(
    cases.map(async ([options, env]) => await world.sallyport(options, ['true'], env)),
  );
  for (const [i, { code, stderr }] of ends.entries()) {
    t.equal(code, 2, cases[i]?.[0].join(' ') ?? '');
    t.match(stderr, cases[i]?.[2]);
    t.notMatch(stderr, /s3cr/);
  }
});
