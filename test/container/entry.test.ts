// The entry guard: each missing piece of the boundary ends in status 64 with one line, and a good start passes the command's status on.
import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { closeInherited } from '../../container/descriptors.ts';
import { needs } from '../helpers/needs.ts';

// Who started the test may have left descriptors open, and the guard refuses those.
closeInherited();

// A copy, because the guard runs as another user and the checkout may lie where that one cannot go.
const folder = mkdtempSync(join(tmpdir(), 'sallyport-entry-'));
chmodSync(folder, 0o755);
const entry = join(folder, 'entry.sh');
copyFileSync(join(import.meta.dirname, '../../container/entry.sh'), entry);
t.teardown(() => rmSync(folder, { recursive: true }));

const drop = [
  'setpriv',
  '--reuid',
  '1000',
  '--regid',
  '1000',
  '--clear-groups',
  '--inh-caps=-all',
  '--ambient-caps=-all',
];
const dropAll = [...drop, '--bounding-set=-all', '--no-new-privs'];
const marker = { SALLYPORT_RUN: 'r1' };

interface End {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** `word` is what the runner answers when the guard says ready; undefined closes the channel instead. */
async function enter(argv: readonly string[], env: Record<string, string>, word?: string): Promise<End> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, {
    env: { PATH: '/usr/bin:/bin', ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  const control = child.stdio[3];
  if (!(control && 'end' in control)) throw new Error('no channel');
  control.on('error', () => {});
  control.once('data', () => control.end(word === undefined ? '' : `${word}\n`));
  let [out, err] = ['', ''];
  child.stdout?.on('data', (text: Buffer) => (out += text.toString()));
  child.stderr?.on('data', (text: Buffer) => (err += text.toString()));
  return await new Promise((resolve) => child.once('close', (status) => resolve({ status, out, err })));
}

const script = ['sh', '-c', 'echo "[$FOO]"; exit 7'];

t.test('entry guard', { skip: needs(t, ['root', 'setpriv']) }, async (t) => {
  t.test(
    'each missing piece of the boundary ends in 64 with one line, and the command never starts',
    async (t) => {
      const violations: readonly (readonly [
        string,
        readonly string[],
        Record<string, string>,
        string | undefined,
        RegExp,
      ])[] = [
        ['no marker', [...dropAll, 'sh', entry, ...script], {}, 'go', /SALLYPORT_RUN/],
        [
          'root',
          ['setpriv', '--bounding-set=-all', '--no-new-privs', 'sh', entry, ...script],
          marker,
          'go',
          /root/,
        ],
        [
          'no-new-privileges missing',
          [...drop, '--bounding-set=-all', 'sh', entry, ...script],
          marker,
          'go',
          /no-new-privileges/,
        ],
        [
          'a capability left',
          [...drop, '--no-new-privs', 'sh', entry, ...script],
          marker,
          'go',
          /capability/,
        ],
        ['the runner is gone', [...dropAll, 'sh', entry, ...script], marker, undefined, /no word/],
        ['another word', [...dropAll, 'sh', entry, ...script], marker, 'stop', /no word/],
        [
          'a variable that is no name',
          [...dropAll, 'sh', entry, ...script],
          { ...marker, SALLYPORT_NAMES: 'A;id' },
          'go',
          /bad name/,
        ],
      ];
      for (const [name, argv, env, word, line] of violations) {
        const { status, out, err } = await enter(argv, env, word);
        t.equal(status, 64, name);
        t.equal(out, '', `${name}: nothing ran`);
        t.match(err, line, name);
        t.equal(err.trim().split('\n').length, 1, `${name}: one line`);
      }
    },
  );

  t.test('the status of the command passes, and its variables arrive byte for byte', async (t) => {
    const env = { ...marker, SALLYPORT_NAMES: 'FOO', SPENV_FOO: 'a "b" $(id) `x`\n\\' };
    const { status, out } = await enter([...dropAll, 'sh', entry, ...script], env, 'go');
    t.equal(status, 7);
    t.equal(out, '[a "b" $(id) `x`\n\\]\n');
    t.equal((await enter([...dropAll, 'sh', entry, 'no-such-program'], marker, 'go')).status, 127);
    const likeOurs = { ...marker, SALLYPORT_NAMES: 'NAMES name', SPENV_NAMES: 'x', SPENV_name: 'y' };
    const show = ['sh', '-c', 'echo "$NAMES $name"; env | grep -c SPENV_'];
    t.equal((await enter([...dropAll, 'sh', entry, ...show], likeOurs, 'go')).out, 'x y\n0\n');
  });
});
