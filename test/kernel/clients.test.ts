// Clients that know nothing of a proxy, in a sandbox without a single proxy variable: each reaches what is allowed over TLS and over plain
// HTTP, and is refused the rest, with the reason on record. What DNS alone shows is in steer.test.ts.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { noteOf } from '../../container/node-note.ts';
import { sandboxPath } from '../../container/environment.ts';
import { run } from '../helpers/netns.ts';
import { needs } from '../helpers/needs.ts';
import { makeWorld, worldNeeds, type World } from './world.ts';

// A slow machine is no failure.
t.setTimeout(300_000);

const policy = {
  version: 1,
  allow: [
    { id: 'allow/good.test', host: 'good.test', ports: [443, 8443], reason: 'TLS' },
    { id: 'allow/also.test', host: 'also.test', protocol: 'http', ports: [80, 8080], reason: 'plain HTTP' },
  ],
};

/** Ends with its stdin. Serves the files of a directory over TLS and plain, as git's dumb protocol wants them. */
const filesCode = `
process.stdin.resume().on('close', () => process.exit())
const fs = require('node:fs'), path = require('node:path'), [, cert, key, root] = process.argv
const serve = (ask, answer) => {
  const file = path.join(root, path.normalize(new URL(ask.url, 'https://x').pathname))
  fs.readFile(file, (error, bytes) => { answer.statusCode = error ? 404 : 200; answer.end(bytes) })
}
const secure = require('node:https').createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, serve)
const plain = () => require('node:http').createServer(serve)
secure.listen(8443, '0.0.0.0', () => plain().listen(80, '0.0.0.0', () => plain().listen(8080, '0.0.0.0', () => console.log('listening'))))
`;

async function must(argv: readonly string[], world: World): Promise<void> {
  const { code, stderr, stdout } = await run(argv, { env: { PATH: process.env['PATH'], HOME: world.dir } });
  if (code !== 0) throw new Error(stderr + stdout);
}

/** A repository, and a revocation list, which is what the JRE's own tool fetches. */
async function startFiles(world: World): Promise<void> {
  const [work, served, keys] = ['work', 'served', 'keys.p12'].map((name) => join(world.dir, name));
  const ca = join(world.workspace, 'ca.pem');
  const script = [
    'set -e; mkdir "$2"',
    'git init -q "$1"; cd "$1"; echo cloned >file; git add file',
    'git -c user.name=t -c user.email=t@good.test commit -qm one; git clone -q --bare "$1" "$2/r.git"; cd "$2/r.git"; git update-server-info',
    'set -- "$1" "$2" "$4" -storepass changeit -keystore "$3"; files=$2; ca=$3; shift 3',
    'keytool -genkeypair -alias a -keyalg EC -dname CN=t "$@" 2>&1; keytool -gencrl -alias a -id 7 "$@" >"$files/list.crl"',
    'keytool -importcert -noprompt -alias ca -file "$ca" -storepass changeit -keystore "$(dirname "$ca")/trust.p12" 2>&1',
  ];
  await must(['sh', '-c', script.join('\n'), 'sh', work ?? '', served ?? '', keys ?? '', ca], world);
  const files = [ca, join(world.dir, 'key.pem'), served ?? ''];
  const server = world.outside.start([process.execPath, '-e', filesCode, ...files]);
  await server.line((line) => line === 'listening');
}

/** Asked for in this order. Each client says of each `yes`, or whatever it says of the others. */
const urls = [
  'https://good.test:8443/list.crl',
  'http://also.test/list.crl',
  'http://also.test:8080/list.crl',
  'https://bad.test/list.crl',
  'https://also.test/list.crl',
  'http://good.test/list.crl',
];

/** What must stand in the audit of every client: for what it reached, and for each of the three that were refused. */
const onRecord = [
  'decision transparent good.test:8443 allow rule_matched',
  'decision http also.test:80 allow rule_matched',
  'decision http also.test:8080 allow rule_matched',
  'name  bad.test:443 deny no_rule_matched',
  'decision transparent also.test:443 deny port_not_allowed',
  'decision http good.test:80 deny port_not_allowed',
];

const fetches = `(async () => { for (const url of process.argv.slice(1))
  await fetch(url).then(({ ok, status, headers }) => console.log(ok ? 'yes' : status + ' ' + headers.get('sallyport-reason')), ({ cause }) => console.log(cause.code)) })()`;
const urllib = `import sys, urllib.request, urllib.error
for url in sys.argv[1:]:
  try: print('yes' if urllib.request.urlopen(url).status == 200 else 'no')
  except urllib.error.HTTPError as e: print(e.code, e.headers['sallyport-reason'])
  except urllib.error.URLError as e: print(type(e.reason).__name__)`;
const httpClient = `import sys, http.client, ssl, urllib.parse
for url in sys.argv[1:]:
  at = urllib.parse.urlsplit(url)
  make = http.client.HTTPSConnection if at.scheme == 'https' else http.client.HTTPConnection
  try:
    connection = make(at.hostname, at.port, timeout=20)
    connection.request('GET', at.path)
    answer = connection.getresponse()
    print('yes' if answer.status == 200 else f'{answer.status} {answer.headers["sallyport-reason"]}')
  except OSError as e: print(type(e).__name__)`;

interface Client {
  readonly what: string;
  /** A program of the system without which there is nothing to try. */
  readonly program?: string;
  /** Lines of a shell that ask for all of `"$@"`. */
  readonly script: string;
  /** Its words for a name that is not answered, for a TLS alert, and for 403. */
  readonly refused: readonly [name: string, alert: string, http: string];
  /** True when it asks nobody for a proxy: with variables alone it has no way out. */
  readonly isDeaf?: boolean;
}

const reasonIn403 = '403 port_not_allowed';

const clients: readonly Client[] = [
  {
    what: 'curl',
    script: `for url; do curl -sS -o /dev/null -w '%{http_code} %header{sallyport-reason}\\n' "$url" || echo "exit $?"; done | sed 's/^200 $/yes/; /^000 /d'`,
    refused: ['exit 6', 'exit 35', reasonIn403],
  },
  {
    what: 'Node of the system',
    program: 'node',
    script: `node -e "$FETCHES" "$@"`,
    refused: ['ENOTFOUND', 'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED', reasonIn403],
  },
  {
    what: 'Node of this checkout',
    script: `/workspace/node -e "$FETCHES" "$@"`,
    refused: ['ENOTFOUND', 'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED', reasonIn403],
  },
  {
    what: "Python's urllib",
    script: `python3 -c "$URLLIB" "$@"`,
    refused: ['gaierror', 'SSLError', reasonIn403],
  },
  {
    what: "Python's http.client",
    isDeaf: true,
    script: `python3 -c "$HTTP_CLIENT" "$@"`,
    refused: ['gaierror', 'SSLError', reasonIn403],
  },
  {
    // A JRE has no compiler; this is its own URLConnection, and the list is only printed when it came over TLS that was verified.
    what: "Java's URLConnection",
    script: `for url; do keytool $TRUST -printcrl -file "$url" 2>&1 | grep -oE "^X.509 CRL|UnknownHost|fatal alert: [a-z_]+|code: [0-9]+" | sed '1s/^X.509 CRL/yes/; q'; done`,
    refused: ['UnknownHost', 'fatal alert: access_denied', 'code: 403'],
  },
];

/** What they fetch is no index: that they came as far is in the audit. */
const tools: readonly (readonly [program: string, (at: string) => string])[] = [
  ['npm', (at) => `npm view x --fetch-retries 0 --registry https://${at}/`],
  [
    'pip3',
    (at) => `pip3 download --no-deps --retries 0 --cert /workspace/ca.pem --index-url https://${at}/simple x`,
  ],
  ['wget', (at) => `wget -qt 1 -O- https://${at}/list.crl`],
];

const wanted = [...worldNeeds, 'git', 'python3', 'keytool'];

/** As the command in the sandbox will look for it. */
const isThere = (program: string): boolean =>
  sandboxPath.split(':').some((directory) => existsSync(join(directory, program)));

/** A Node of the system that knows no NODE_USE_ENV_PROXY; the note at the start of a run says so. */
const isOld = (program: string): boolean =>
  program === 'node' &&
  noteOf(
    spawnSync('/usr/bin/env', ['-i', `PATH=${sandboxPath}`, 'node', '--version'], { encoding: 'utf8' })
      .stdout,
  ) !== null;

t.test('without a proxy variable', { skip: needs(t, wanted) }, async (t) => {
  const world = await makeWorld(t);
  await startFiles(world);
  const file = join(world.dir, 'clients.json');
  writeFileSync(file, JSON.stringify(policy));
  copyFileSync(process.execPath, join(world.workspace, 'node'));
  const told = ['CURL_CA_BUNDLE', 'GIT_SSL_CAINFO', 'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE'].map(
    (name) => `${name}=/workspace/ca.pem`,
  );
  const trust =
    '-J-Djavax.net.ssl.trustStore=/workspace/trust.p12 -J-Djavax.net.ssl.trustStorePassword=changeit';
  const code = [`TRUST=${trust}`, `FETCHES=${fetches}`, `URLLIB=${urllib}`, `HTTP_CLIENT=${httpClient}`];
  const env = [...told, ...code].flatMap((one) => ['--env', one]);
  const bare = ['--policy', file, '--workspace', world.workspace, ...env];
  const ask = async (name: string, script: string, wiring = 'transparent') => {
    // tap puts its own NODE_OPTIONS into whatever a process of Node's starts.
    const lines = ['unset NODE_OPTIONS', 'env | grep -icE "^[a-z]+_proxy=|proxyHost"', script].join('\n');
    const command = ['sh', '-c', lines, 'sh', ...urls];
    const { stdout, stderr, report } = await world.sallyport(
      [...bare, '--wiring', wiring, '--name', world.name(name)],
      command,
    );
    const [variables, ...said] = stdout.trim().split('\n');
    return { variables, said, stderr, report, audit: readAudit(report.audit) };
  };

  for (const [i, { what, program = 'sh', script, refused }] of clients.entries()) {
    const title = `${what} reaches what is allowed, and the audit says why it was refused the rest`;
    t.test(title, { skip: !isThere(program) && `no ${program}` }, async (t) => {
      const { variables, said, stderr, report, audit } = await ask(`client${i}`, script);
      t.equal(variables, '0', 'no proxy variable');
      t.same(said, ['yes', 'yes', 'yes', ...refused], stderr.slice(0, 2000));
      t.same(
        onRecord.filter((line) => !audit.includes(line)),
        [],
        audit.join('\n'),
      );
      const most = report.denied.most.map(({ host, reason }) => `${host} ${reason}`);
      t.same(most.toSorted(), [
        'also.test port_not_allowed',
        'bad.test no_rule_matched',
        'good.test port_not_allowed',
      ]);
    });
  }

  t.test(
    'with variables alone those that ask for a proxy reach as much, and the others nothing',
    async (t) => {
      const there = clients.filter(({ program = 'sh' }) => isThere(program));
      const scripts = there.map(({ script }, i) => `echo "client ${i}"; ${script}`);
      const { variables, said, stderr, audit } = await ask('env', scripts.join('\n'), 'env');
      t.not(variables, '0');
      for (const [i, { what, program = 'sh', isDeaf = isOld(program) }] of there.entries()) {
        const from = said.indexOf(`client ${i}`) + 1;
        const yes = said.slice(from, from + urls.length).filter((one) => one === 'yes').length;
        t.equal(
          yes,
          isDeaf ? 0 : 3,
          `${what}: ${isDeaf ? 'no way out' : 'as before'}; ${stderr.slice(0, 1000)}`,
        );
      }
      t.ok(audit.includes('decision connect bad.test:443 deny no_rule_matched'));
      t.notOk(audit.some((line) => line.includes(' transparent ')));
    },
  );

  for (const [wiring, mode] of [
    ['env', 'connect'],
    ['transparent', 'transparent'],
  ] as const)
    t.test(
      `with --wiring ${wiring} the package managers find their way without a word of ours`,
      async (t) => {
        const there = tools.filter(([program]) => isThere(program));
        // A denied name of its own says in the audit who has asked.
        const scripts = there.flatMap(([program, script]) => [
          script('good.test:8443'),
          script(`${program}.test`),
        ]);
        const { stderr, audit } = await ask(`tools${wiring.slice(0, 1)}`, scripts.join('\n'), wiring);
        const reached = audit.filter((line) => line === `decision ${mode} good.test:8443 allow rule_matched`);
        t.ok(reached.length >= there.length, `${reached.length}: ${stderr.slice(0, 2000)}`);
        for (const [program] of there)
          t.ok(
            audit.some((line) => line.includes(` ${program}.test:443 deny no_rule_matched`)),
            program,
          );
      },
    );

  t.test('git clones over TLS and over plain HTTP, and nothing else', async (t) => {
    const script = [
      'git clone -q https://good.test:8443/r.git && cat r/file',
      'git clone -q http://also.test/r.git plain && cat plain/file',
      'git clone -q https://bad.test/r.git a; echo "$?"',
      'git clone -q https://also.test/r.git b; echo "$?"',
      'git clone -q http://good.test/r.git c; echo "$?"',
    ];
    const { said, stderr, audit } = await ask('git', script.join('\n'));
    t.same(said, ['cloned', 'cloned', '128', '128', '128'], stderr.slice(0, 2000));
    const without8080 = onRecord.filter((line) => !line.includes(':8080'));
    t.same(
      without8080.filter((line) => !audit.includes(line)),
      [],
      audit.join('\n'),
    );
  });

  t.test('a name of its own for the address of the proxy helps nobody', async (t) => {
    const script = [
      'A=$(getent hosts good.test | cut -d" " -f1)',
      'curl -sS --resolve bad.test:443:$A https://bad.test; echo "by address $?"',
      'curl -sS --max-time 5 https://$A; echo "no name $?"',
      'curl -sS -o /dev/null -w "%{http_code} %header{sallyport-reason}\\n" -H "Host: bad.test" http://also.test',
    ];
    const { said, stderr, audit } = await ask('names', script.join('\n'));
    t.same(said, ['by address 35', 'no name 35', '403 no_rule_matched']);
    t.match(stderr, /alert access denied/);
    t.ok(audit.includes('decision transparent bad.test:443 deny no_rule_matched'), audit.join('\n'));
    t.ok(audit.includes('decision transparent :443 deny server_name_missing'));
    t.ok(audit.includes('decision http bad.test:80 deny no_rule_matched'));
  });
});

function readAudit(file: string): readonly string[] {
  return readFileSync(file, 'utf8').trim().split('\n').map(lineOf);
}

interface Line {
  readonly event: string;
  readonly mode?: string;
  readonly host: string;
  readonly port?: number | null;
  readonly verdict: string;
  readonly reason: string | null;
}

function lineOf(line: string): string {
  const { event, mode = '', host, port, verdict, reason } = JSON.parse(line) as Line;
  return `${event} ${mode} ${host}:${port ?? 443} ${verdict} ${reason}`;
}
