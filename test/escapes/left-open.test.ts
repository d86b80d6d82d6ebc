// What the machine leaves open around a run: descriptors of the caller, a fence that somebody takes away, a workspace that changes under way.
import { mkdirSync, readdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../helpers/needs.ts';
import { makeWorld, worldNeeds } from '../kernel/world.ts';

const main = join(import.meta.dirname, '../../container/main.ts');
/** Ends with its stdin, so that a test that was killed leaves none behind. */
const listening =
  "process.stdin.resume().on('close', () => process.exit()); require('net').createServer((s) => s.destroy()).listen(7070, () => console.log('on'))";

// A slow machine is no failure.
t.setTimeout(300_000);

t.test('left open', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);
  const environment = { ...process.env, SALLYPORT_STATE_DIR: world.state };
  /** Runs a line of bash on the host; `"$@"` in it is `sallyport run` with its options. */
  const bash = async (line: string, name: string, command: readonly string[]) =>
    await world.host.run(
      [
        'bash',
        '-c',
        line,
        'bash',
        process.execPath,
        main,
        'run',
        ...world.options,
        '--name',
        world.name(name),
        '--',
        ...command,
      ],
      { env: environment, timeoutMs: 60_000 },
    );

  t.test(
    'a descriptor that the caller left open reaches neither the command nor the proxy, whatever its number',
    async (t) => {
      // The number of the listing itself is in it, and gone: that one leads nowhere.
      const script =
        'for f in /proc/self/fd/*; do [ -e "$f" ] && case ${f##*/} in [012]) ;; *) echo "open ${f##*/}";; esac; done; ls /proc/self/fd/251/ && echo WON; echo done';
      const { stdout } = await bash('exec 20</ 251</ 300</etc; exec "$@"', 'fd', ['dash', '-c', script]);
      t.equal(stdout, 'done\n');

      const look =
        'exec 251</; "$@" & until P=$(pgrep -f "[p]roxy --config $SALLYPORT_STATE_DIR/runs/"); do sleep 0.1; done; ls /proc/$P/fd | grep -x 251; kill $!; wait';
      const seen = await bash(look, 'fdproxy', ['sleep', '5']);
      t.equal(seen.stdout, '');
    },
  );

  t.test('a directory as standard stream is refused: it would lead out of the sandbox', async (t) => {
    const { code, stdout, stderr } = await bash('exec "$@" </', 'stdin', ['ls', '/proc/self/fd/0/']);
    t.equal(code, 69);
    t.equal(stdout, '');
    t.match(stderr, /descriptor 0 is a directory/);
  });

  t.test(
    'a reader of stderr that closes early does not keep a run from giving everything back',
    async (t) => {
      await bash('set -o pipefail; "$@" 2>&1 >/dev/null | true', 'pipe', ['true']);
      t.same(readdirSync(join(world.state, 'runs')), []);
      t.notMatch(await world.host.must(['nft', 'list', 'tables']), /sallyport/);
      t.notMatch(await world.host.must(['ip', 'link']), /sp-/);
    },
  );

  t.test('a fence that is taken away comes back; one that others lead around closes the run', async (t) => {
    const port = world.host.start([process.execPath, '-e', listening]);
    await port.line((line) => line === 'on');
    const script =
      'P=${HTTPS_PROXY#http://}; echo up; while sleep 0.2; do nc -z -w1 ${P%:*} 7070 && echo "port open"; nc -z -w1 ${P%:*} 3128 && echo "proxy open" || echo "proxy shut"; done 2>/dev/null';
    const run = world.start(['--name', world.name('flush')], ['sh', '-c', script]);
    await run.line('proxy open');
    await world.host.must(['nft', 'flush', 'ruleset']);
    await run.line('it was put back');
    t.match(await world.host.must(['nft', 'list', 'tables']), new RegExp(`sallyport_${world.name('flush')}`));
    await world.host.must([
      'nft',
      'add table ip other; add chain ip other c { type filter hook input priority 0; }; add rule ip other c tcp dport 3128 tcp dport set 7070',
    ]);
    await run.line('the link of the sandbox is down');
    await run.line('proxy shut');
    const before = run.lines.length;
    await world.host.must(['nft', 'delete table ip other']);
    await run.line('the link is up');
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (run.lines.slice(before).includes('proxy open')) resolve();
        else setTimeout(look, 20);
      };
      look();
    });
    run.child.kill('SIGTERM');
    await run.ended;
    await port.stop();
  });

  t.test('a workspace that is swapped after it was checked is not mounted', async (t) => {
    const chosen = join(world.dir, 'chosen');
    mkdirSync(chosen);
    const name = world.name('swap');
    const run = world.start(['--name', name, '--workspace', chosen], ['sh', '-c', 'echo RAN; ls /workspace']);
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (list(join(world.state, 'runs')).includes(name)) resolve();
        else setTimeout(look, 5);
      };
      look();
    });
    renameSync(chosen, join(world.dir, 'aside'));
    symlinkSync('/etc', chosen);
    t.equal(await run.ended, 69);
    t.match(run.lines.join('\n'), /the workspace is not the directory that was checked/);
    t.notOk(run.lines.includes('RAN'));
  });
});

function list(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
