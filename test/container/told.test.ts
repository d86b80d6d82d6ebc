// What a person is told: of denials, of a dead proxy, of an old node, and of a command line that cannot be read.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { auditSize, deniedText, readDenied } from '../../container/denied.ts';
import { noteOf } from '../../container/node-note.ts';
import { lastError, readable } from '../../container/proxy-words.ts';
import manifest from '../../package.json' with { type: 'json' };

t.test('a node that ignores the proxy variables is told, one that obeys them is not', async (t) => {
  t.match(noteOf('v20.19.2\n'), /v20\.19\.2.*ignores the proxy variables/);
  t.match(noteOf('v23.11.0'), /ignores/);
  t.same(
    ['v24.0.0', 'v26.5.0', 'v22.21.0', 'something else', ''].map((version) => noteOf(version)),
    [null, null, null, null, null],
  );
});

t.test('of a dead proxy only its last error is told, never a line of its log as it is', async (t) => {
  const line = (level: number, msg: string, more: object = {}): string =>
    JSON.stringify({ level, time: 1, name: 'sallyport', ...more, msg });
  const said = `"cut":1,"level":50,"msg":"x"}\n${line(50, 'bug', { err: { message: 'first' } })}\n${line(50, 'bug', { err: { message: 'last' } })}\n${line(30, 'listening')}\n`;
  t.equal(lastError(said), 'error: bug: last');
  t.equal(lastError(`${line(30, 'listening')}\n`), undefined);
  t.equal(lastError('/x.ts:1\nTypeError: no\n    at x\n'), 'TypeError: no');
  t.equal(readable('error: no\nhelp: do\n'), 'error: no\nhelp: do', 'what it says to a person stays');
});

t.test('what was denied is counted from the audit: this run, its command, each verdict once', async (t) => {
  const file = join(temporary(t), 'audit.jsonl');
  const line = (run: string, tunnel: string, host: string, reason = 'no_rule_matched'): string =>
    `${JSON.stringify({ event: 'decision', run, tunnel, host, verdict: 'deny', reason })}\n`;
  writeFileSync(file, line('r1', 'old', 'earlier.example'));
  const start = await auditSize(file);
  writeFileSync(file, line('r1', 'gate1', 'gate-r1.invalid') + line('r1', 'gate2', 'good.example'), {
    flag: 'a',
  });
  const command = await auditSize(file);
  const own = [
    line('r1', 'gate2', 'good.example', 'address_not_public'),
    line('r1', 'a', 'evil.example'),
    line('r1', 'b', 'evil.example'),
    line('r1', 'c', '1.2.3.4', 'host_is_address'),
    line('r2', 'd', 'other-run.example'),
    line('r1', 'probe', 'gate-r1.invalid'),
    line('r1', '', 'asked.example').replace('decision', 'name').replace('"tunnel":"",', ''),
    `${JSON.stringify({ event: 'drop', run: 'r1', class: 'dns', protocol: 'udp', address: '"deny"' })}\n`,
    line('r1', 'e', 'let-out.example').replace('"verdict":"deny"', '"verdict":"allow","detail":"\\"deny\\""'),
    line('r1', 'a', 'evil.example').replace('decision', 'close'),
    'not JSON "deny"\n',
  ];
  writeFileSync(file, own.join(''), { flag: 'a' });
  const denied = await readDenied(file, 'r1', { start, command });
  t.same(denied, {
    total: 4,
    most: [
      { host: 'evil.example', reason: 'no_rule_matched', count: 2 },
      { host: '1.2.3.4', reason: 'host_is_address', count: 1 },
      { host: 'asked.example', reason: 'no_rule_matched', count: 1 },
    ],
  });
  t.equal(
    deniedText(denied, '/a'),
    'denied 4: evil.example no_rule_matched (2), 1.2.3.4 host_is_address (1), asked.example no_rule_matched (1); audit: /a',
  );
  const many = Array.from({ length: 2000 }, (_, n) => line('r1', `t${n}`, `h${n}.example`));
  writeFileSync(file, many.join(''));
  const bounded = await readDenied(file, 'r1', { start: 1e9, command: 1e9 });
  t.match([bounded.total, bounded.most.length], [2000, 5], 'a rotated file is read from its beginning');
  t.match(
    deniedText(bounded, '/a'),
    /^denied 2000: (h\d\.example no_rule_matched \(1\), ){5}1995 more; audit/,
  );
  t.same(await readDenied(join(file, 'none'), 'r1', { start, command }), { total: 0, most: [] });
});

t.test('a command line that cannot be read ends with 2 and a help line, in every subcommand', async (t) => {
  const wrong: readonly (readonly [readonly string[], string])[] = [
    [['runn'], 'help: `sallyport --help` lists the commands'],
    [['run'], 'help: `sallyport run --help` lists the flags'],
    [['run', '--polcy', 'x', '--', 'true'], 'help: `sallyport run --help` lists the flags'],
    [['doctor', '--jsn'], 'help: `sallyport doctor --help` lists the flags'],
    [['doctor', 'foo'], 'help: `sallyport doctor --help` lists the flags'],
    [['fence', 'plna'], 'help: `sallyport fence --help` lists the commands'],
  ];
  for (const [words, help] of wrong) {
    const { status, stdout, stderr } = sallyport(words);
    t.same([status, stdout, stderr.trim().split('\n').at(-1)], [2, '', help], words.join(' '));
  }
  t.same(sallyport(['--version']), { status: 0, stdout: `${manifest.version}\n`, stderr: '' });
});

t.test('with --json bad use is one object on one line, whoever found it', async (t) => {
  for (const words of [
    ['--polcy', 'x'],
    ['--metrics', 'x'],
    ['--env', 'HTTPS_PROXY=x'],
    ['--name', '../x'],
  ]) {
    const { status, stdout, stderr } = sallyport(['run', '--json', ...words, '--', 'echo', 'RAN']);
    t.same([status, stdout, stderr.split('\n').length], [2, '', 2], words.join(' '));
    const report = { run: null, status: 2, ended: 'refused', enforcement: null, help: /./, message: /./ };
    t.match(JSON.parse(stderr), report, words.join(' '));
  }
});

function sallyport(words: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const main = join(import.meta.dirname, '../../container/main.ts');
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...words], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

function temporary(t: { teardown(handler: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'sallyport-test-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
