// `sallyport fence` as a person types it: words, exit codes, JSON. The kernel is the fake one, or none.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  createFakeNft,
  createNft,
  fenceCommand,
  planFence,
  type FakeNft,
  type FenceSpec,
  type WatchedNft,
} from '../../nft/index.ts';
import { run } from '../helpers/netns.ts';

const sandbox = {
  name: 'a',
  interface: 'sp-a',
  address: '10.219.0.2',
  proxy: '10.219.0.1',
  ports: [3128, 5432],
};
const flags =
  '--interface sp-a --address 10.219.0.2 --proxy 10.219.0.1 --port 3128 --port 5432 --name a'.split(' ');
const dir = t.testdir();

function file(name: string, content: unknown): string {
  const path = join(dir, name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

async function fence(
  nft: WatchedNft,
  ...words: readonly string[]
): Promise<{ code: number; out: string; err: string }> {
  const said = { code: -1, out: '', err: '' };
  const io = {
    nft,
    folder: join(dir, 'state'),
    bridges: { read: async (spec: FenceSpec) => spec },
    resolvers: { settle: async () => {}, verify: async () => [], release: async () => {} },
    secondLinks: async () => [],
    peer: async () => undefined,
    stop: () => AbortSignal.abort(),
    out: (text: string) => void (said.out += `${text}\n`),
    err: (text: string) => void (said.err += `${text}\n`),
    exit: (code: number) => void (said.code = code),
  };
  await fenceCommand(io).parseAsync([...words], { from: 'user' });
  return said;
}

/** A real process: what commander does with bad use ends the process. */
async function fenceProcess(
  ...words: readonly string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const door = JSON.stringify(join(import.meta.dirname, '../../nft/index.ts'));
  const script = `import { fenceCommand } from ${door}; await fenceCommand().parseAsync(process.argv.slice(1), { from: 'user' })`;
  return await run([process.execPath, '--input-type=module', '-e', script, '--', ...words]);
}

t.test('apply, verify, change, verify, remove, verify: 0 0 1 0 1', async (t) => {
  const nft: FakeNft = createFakeNft();
  const applied = await fence(nft, 'apply', ...flags);
  t.same([applied.code, applied.err], [0, '']);
  t.match(applied.out, /table inet sallyport is in place .* around sp-a/);
  t.match(await fence(nft, 'verify', ...flags), {
    code: 0,
    out: /table inet sallyport holds\nnothing dropped yet/,
  });
  nft.tables.set('sallyport', (nft.tables.get('sallyport') ?? []).slice(0, -1));
  t.match(await fence(nft, 'verify', ...flags), {
    code: 1,
    out: /differs from the plan:\n {2}chain `postrouting`: rule 2 is missing/,
  });
  t.match(await fence(nft, 'remove'), { code: 0, out: /is gone/ });
  t.match(await fence(nft, 'verify', ...flags), { code: 1, out: /table `sallyport` is missing/ });
});

t.test(
  'a file and the flags make the same plan, in words and as the transaction that `nft -j -f` takes',
  async (t) => {
    const nft = createFakeNft();
    const spec = file('spec.json', { sandboxes: [sandbox] });
    const words = await fence(nft, 'plan', '--spec', spec);
    t.equal(words.out, (await fence(nft, 'plan', ...flags)).out);
    t.match(
      words.out,
      /chain from_a \(no hook\)\n {3}1 {2}ip saddr 10\.219\.0\.2 ip daddr 10\.219\.0\.1 tcp dport \{ 3128, 5432 \} notrack accept/,
    );
    t.match(words.out, /th dport \{ 53, 853 \} counter drop_dns drop/);
    const json = await fence(nft, 'plan', '--spec', spec, '--table', 'sallyport_x', '--json');
    t.same(
      JSON.parse(json.out),
      planFence({ table: 'sallyport_x', pool: '10.219.0.0/16', sandboxes: [sandbox] }),
    );
    t.equal(nft.applied.length, 0, 'a plan changes nothing');
  },
);

t.test('--json answers are JSON', async (t) => {
  const nft = createFakeNft();
  t.same(JSON.parse((await fence(nft, 'apply', ...flags, '--json')).out), {
    table: 'sallyport',
    applied: true,
    interfaces: ['sp-a'],
  });
  t.match(JSON.parse((await fence(nft, 'verify', ...flags, '--json')).out), {
    holds: true,
    differences: [],
    drops: { dns: 0, inbound: 0 },
  });
  t.same(JSON.parse((await fence(nft, 'remove', '--json')).out), { table: 'sallyport', removed: true });
  t.match(JSON.parse((await fence(nft, 'verify', ...flags, '--json')).out), {
    holds: false,
    differences: ['table `sallyport` is missing'],
  });
});

const badSpecs: readonly [title: string, words: readonly string[], err: RegExp][] = [
  ['a file that is not there', ['--spec', join(dir, 'none.json')], /none\.json` cannot be read: ENOENT/],
  ['a directory', ['--spec', dir], /cannot be read: EISDIR/],
  ['a file that is not JSON', ['--spec', file('bad.json', 'table inet x {')], /bad\.json` is not JSON/],
  ['an empty file', ['--spec', file('empty.json', '')], /empty\.json` is not JSON/],
  ['a list', ['--spec', file('list.json', [])], /list\.json` is not a JSON object/],
  [
    'a file of more than 1 MiB',
    ['--spec', file('big.json', ' '.repeat(1024 * 1024 + 1))],
    /larger than 1 MiB/,
  ],
  [
    'a bad spec',
    ['--spec', file('wrong.json', { sandboxes: [{ ...sandbox, ports: [] }] })],
    /sandboxes\[0\]\.ports: holds no port/,
  ],
  ['no flags', [], /`--interface` is missing\nhelp: give --spec FILE, or/],
  ['half of the flags', flags.slice(0, 4), /`--proxy` is missing/],
  ['a port that is a word', flags.map((one) => one.replace('5432', 'http')), /`http` is not a port/],
  ['a port with a sign', flags.map((one) => one.replace('5432', '+22')), /`\+22` is not a port/],
  ['a UDP port that is a word', [...flags, '--datagram', 'dns'], /datagrams: `dns` is not a port/],
  [
    'UDP for a bridge',
    ['--interface', 'br-a', '--subnet', '10.219.0.0/24', '--proxy', '10.219.0.1:3128', '--datagram', '53'],
    /networks\[0\]: unknown key `datagrams`/,
  ],
  ["another program's table", [...flags, '--table', 'filter'], /`filter` is not a table of ours/],
];

t.test('--datagram lets UDP to that port of the proxy through, as the key of a file does', async (t) => {
  const words = [...flags, '--datagram', '53', '--json'];
  const fromFlags = await fence(createFakeNft(), 'plan', ...words);
  const spec = { sandboxes: [{ ...sandbox, datagrams: [53] }] };
  const fromFile = await fence(createFakeNft(), 'plan', '--spec', file('udp.json', spec), '--json');
  t.equal(fromFlags.out, fromFile.out);
  t.not(fromFlags.out, (await fence(createFakeNft(), 'plan', ...flags, '--json')).out);
});

t.test('a bad spec is exit 2, with help, and never reaches the kernel', async (t) => {
  for (const [title, words, err] of badSpecs) {
    const nft = createFakeNft();
    for (const verb of ['plan', 'apply', 'verify'])
      t.match(await fence(nft, verb, ...words), { code: 2, out: '', err }, `${verb}: ${title}`);
    t.equal(nft.applied.length, 0);
  }
  t.match(await fence(createFakeNft(), 'remove', '--table', 'filter'), { code: 2, err: /\nhelp: / });
});

t.test(
  'no nft is exit 69 with what to install: no fence, no start (missing privilege must not degrade)',
  async (t) => {
    const nft = createNft({ program: '/nonexistent/nft' });
    for (const verb of ['apply', 'verify'])
      t.match(await fence(nft, verb, ...flags), {
        code: 69,
        out: '',
        err: /^error: cannot run.*\nhelp: install nftables/,
      });
    t.match(await fence(nft, 'remove'), { code: 69 });
    t.match(await fence(nft, 'plan', ...flags), { code: 0 }, 'a plan needs no nft');
  },
);

t.test('a process ends with 2 on bad use, 0 on help, and help has examples', async (t) => {
  const cases: readonly [words: readonly string[], code: number, says: RegExp][] = [
    [['plan', '--spec', 'x', '--port', '1'], 2, /cannot be used with option '--spec <file>'/],
    [['plan', '--nonsense'], 2, /unknown option '--nonsense'/],
    [['burn'], 2, /unknown command 'burn'/],
    [['verify', '--help'], 0, /Examples:\n {2}sallyport fence verify --spec fence\.json/],
    [['remove', '--help'], 0, /Example:\n/],
    [['--help'], 0, /Exit status: 0 done or holds/],
    [['plan', ...flags], 0, /chain from_a/],
    [['plan'], 2, /`--interface` is missing/],
  ];
  await Promise.all(
    cases.map(async ([words, code, says]) => {
      const ended = await fenceProcess(...words);
      t.match({ code: ended.code, said: ended.stdout + ended.stderr }, { code, said: says }, words.join(' '));
    }),
  );
});
