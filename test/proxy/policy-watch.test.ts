// A policy file that changes where its directory does not: behind links, and in directories that are swapped.
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { policyVersion, watchPolicyFile } from '../../proxy/policy-watch.ts';

async function folder(t: Test): Promise<(...names: string[]) => string> {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-watch-'));
  t.teardown(async () => await rm(directory, { recursive: true, force: true }));
  return (...names) => join(directory, ...names);
}

/** Waits for the next change that the watch tells of. */
function watched(t: Test, path: string, read = policyVersion(path)): () => Promise<void> {
  let wake = (): void => {};
  const watch = watchPolicyFile(path, read, () => wake());
  // A watch keeps no process alive; a test that waits for it must.
  const hold = setInterval(() => {}, 60_000);
  t.teardown(() => {
    clearInterval(hold);
    watch.close();
  });
  return async () => await new Promise<void>((resolve) => (wake = resolve));
}

async function swap(from: string, to: string): Promise<void> {
  await rename(to, `${to}.old`);
  await rename(from, to);
}

t.test(
  'a policy is read again when it changes behind a link, in a swapped directory, or in another release (failure 46)',
  async (t) => {
    t.jobs = 4;
    void t.test('the file that a link leads to is written', async (t) => {
      const at = await folder(t);
      await mkdir(at('real'));
      await mkdir(at('link'));
      await writeFile(at('real/policy.json'), 'one');
      await symlink('../real/policy.json', at('link/policy.json'));
      const changed = watched(t, at('link/policy.json'))();
      await writeFile(at('real/policy.json'), 'other');
      await changed;
    });
    void t.test(
      'its directory is replaced, and then a file that it imports is written in the new one',
      async (t) => {
        const at = await folder(t);
        for (const name of ['dir', 'new']) {
          await mkdir(at(name));
          await writeFile(at(name, 'policy.nix'), name);
        }
        const next = watched(t, at('dir/policy.nix'));
        const swapped = next();
        await swap(at('new'), at('dir'));
        await swapped;
        const written = next();
        await writeFile(at('dir/imported.nix'), 'written');
        await written;
      },
    );
    void t.test('the link `current` is turned to another release, however far above', async (t) => {
      const at = await folder(t);
      for (const name of ['v1', 'v2']) {
        await mkdir(at(name, 'etc'), { recursive: true });
        await writeFile(at(name, 'etc/policy.json'), 'the same');
      }
      await symlink('v1', at('current'));
      const changed = watched(t, at('current/etc/policy.json'))();
      await symlink('v2', at('turned'));
      await rename(at('turned'), at('current'));
      await changed;
    });
    void t.test('it is written between the reading and the watch', async (t) => {
      const at = await folder(t);
      await writeFile(at('policy.json'), 'one');
      const read = policyVersion(at('policy.json'));
      await writeFile(at('policy.json'), 'other');
      await watched(t, at('policy.json'), read)();
    });
    void t.test('its directory is gone, and comes back', async (t) => {
      const at = await folder(t);
      await mkdir(at('dir'));
      await writeFile(at('dir/policy.json'), 'one');
      const next = watched(t, at('dir/policy.json'));
      const gone = next();
      await rename(at('dir'), at('away'));
      await gone;
      const back = next();
      await rename(at('away'), at('dir'));
      await back;
    });
  },
);

t.test('a directory that cannot be watched is an error at the start', async (t) => {
  t.throws(() => watchPolicyFile('/nonexistent/policy.json', '', () => {}), { code: 'ENOENT' });
});
