// The nft client against stand-in programs: what it sends, what it makes of answers. Needs no rights; kernel/ruleset.test.ts has the real nft.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createNft, type Transaction } from '../../nft/index.ts';

const dir = t.testdir();
const command = { add: { table: { family: 'inet', name: 'sallyport' } } } as const;
const tx: Transaction = { nftables: [command] };

/** An executable stand-in for nft. */
function program(name: string, script: string): string {
  const path = join(dir, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

process.env['TMPDIR'] = dir; // so that only this test's files are counted
const leftovers = (): readonly string[] =>
  readdirSync(dir).filter((name) => name.startsWith('sallyport-nft-'));

t.test(
  'a transaction arrives whole, on a stdin that nft can open by its path (a socket it cannot)',
  async (t) => {
    const nft = createNft({
      program: program('takes', `echo "$@" >> ${dir}/args; cat < /dev/stdin > ${dir}/body`),
    });
    const big: Transaction = { nftables: Array.from({ length: 5000 }, () => command) };
    await nft.check(tx);
    await nft.apply(big);
    t.equal(readFileSync(join(dir, 'args'), 'utf8'), '-j -c -f -\n-j -f -\n');
    t.equal(readFileSync(join(dir, 'body'), 'utf8'), JSON.stringify(big));
  },
);

t.test('no file is left behind, also when nft fails', async (t) => {
  await t.rejects(createNft({ program: program('fails', 'exit 1') }).apply(tx), {
    code: 'nft_failed',
    message: /exit status 1/,
  });
  t.same(leftovers(), []);
});

const errors: readonly [title: string, script: string, code: string, message: RegExp, help: RegExp][] = [
  [
    'a refusal',
    'echo "internal:0:0-0: Error: File exists" >&2; exit 1',
    'nft_failed',
    /nft refused: .*File exists/,
    /no rule was changed/,
  ],
  [
    'no rights',
    'echo "Operation not permitted (you must be root)" >&2; exit 1',
    'nft_not_permitted',
    /not permitted/,
    /run as root/,
  ],
  ['a crash', 'kill -SEGV $$', 'nft_failed', /nft refused/, /no rule/],
  ['a hang', 'exec sleep 60', 'nft_failed', /did not answer within 200 ms/, /no rule/],
];

for (const [title, script, code, message, help] of errors) {
  t.test(`${title} is a FenceError \`${code}\` with help`, async (t) => {
    const nft = createNft({
      program: program(code + title.replaceAll(' ', ''), script),
      timeoutMs: title === 'a hang' ? 200 : 10_000,
    });
    await t.rejects(nft.apply(tx), { name: 'FenceError', code, message, help });
    await t.rejects(nft.list('sallyport'), { name: 'FenceError', code });
  });
}

t.test('no nft program says what to install, also when it is missing behind other words', async (t) => {
  const missing = { program: '/nonexistent/nft' };
  for (const options of [
    missing,
    { ...missing, enter: ['env'] },
    { program: 'x', enter: ['/nonexistent/nsenter'] },
  ]) {
    const nft = createNft(options);
    await t.rejects(nft.apply(tx), { code: 'nft_missing', help: /apt-get install nftables/ });
    await t.rejects(nft.list('sallyport'), { code: 'nft_missing' });
  }
});

t.test('a listing is believed only when it is nftables JSON', async (t) => {
  const list = async (script: string) =>
    await createNft({ program: program('lists', script) }).list('sallyport');
  t.same(await list(`echo '{"nftables":[{"metainfo":{"version":"1"}},{"table":{"name":"sallyport"}}]}'`), [
    { table: { name: 'sallyport' } },
  ]);
  for (const text of ['', 'table inet sallyport {', '[]', '{}', '{"nftables":{}}', 'null'])
    await t.rejects(
      list(`printf '%s' '${text}'`),
      { code: 'nft_failed', message: /not JSON of nftables/ },
      text,
    );
});

t.test('only the kernel saying that the table is missing makes an empty listing', async (t) => {
  const list = async (script: string) =>
    await createNft({ program: program('misses', script) }).list('sallyport');
  t.same(await list('echo "Error: No such file or directory" >&2; exit 1'), []);
  await t.rejects(list('echo "nsenter: cannot open /run/netns/x: No such file or directory" >&2; exit 1'), {
    code: 'nft_failed',
  });
});

t.test("another program's table cannot even be listed", async (t) => {
  await t.rejects(createNft({ program: '/nonexistent/nft' }).list('filter'), { code: 'spec_invalid' });
});
