// Runs the demo as a newcomer would. Not a test of the boundary: test/kernel has those.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { needs } from './helpers/needs.ts';

const main = join(import.meta.dirname, '../examples/demo/main.ts');
const demo = (...args: readonly string[]) =>
  spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', timeout: 110_000 });

t.test('the demo', { skip: needs(t, ['root', 'nft', 'netns']) }, async (t) => {
  t.test('shows every line as expected, plain when it is not on a terminal', async (t) => {
    const ran = demo();
    t.equal(ran.status, 0, ran.stdout + ran.stderr);
    t.notMatch(ran.stdout, /✗/);
    t.notOk(ran.stdout.includes(String.fromCharCode(27)), 'no colour in a pipe');
  });

  t.test('a run on its host is answered, left without names, and has no other way out', async (t) => {
    const script =
      'curl -sS https://api.anthropic.com || echo "api $?"; getent hosts example.org || echo "names $?"; curl -sS --noproxy "*" --max-time 3 https://1.2.3.4 || echo "direct $?"';
    const ran = demo('exec', 'sallyport', 'run', '--', 'sh', '-c', script);
    t.match(ran.stdout, /"host":"api\.anthropic\.com"/, ran.stderr);
    t.match(ran.stdout, /names 2\n/, 'getent: not found');
    t.match(ran.stdout, /direct 7\n/, 'curl: could not connect');
  });
});
