// What a sandbox can read of its own policy: the list that `policy list` prints, true after a reload, out of reach of its writes.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../helpers/netns.ts';
import { needs } from '../helpers/needs.ts';
import { makeWorld, worldNeeds } from './world.ts';

t.setTimeout(120_000);

const cli = join(import.meta.dirname, '../../policy/cli.ts');

const rules = [
  { id: 'a', host: 'good.test', ports: [443, 8443], reason: 'TLS, on any wiring' },
  { id: 'b', host: '*.also.test', protocol: 'http', reason: 'plain HTTP' },
];
const deny = [{ id: 'd', host: 'no.also.test', reason: 'not this one' }];
const services = [
  { id: 's', name: 'db', host: 'good.test', port: 5432, reason: 'opaque', addresses: ['1.2.3.4/32'] },
];

t.test('the policy in the sandbox', { skip: needs(t, worldNeeds) }, async (t) => {
  const world = await makeWorld(t);
  const file = join(world.dir, 'list.json');
  const write = (allow: readonly object[]): void =>
    writeFileSync(file, JSON.stringify({ version: 1, allow, deny, services }));
  const listed = async (): Promise<string> =>
    (await run([process.execPath, cli, 'list', '--policy', file], { env: { PATH: process.env['PATH'] } }))
      .stdout;
  write(rules);

  t.test('is what `policy list` prints, with what the run brings, and cannot be written', async (t) => {
    const bare = ['--policy', file];
    const cat = [
      'sh',
      '-c',
      'cat "$SALLYPORT_POLICY"; { echo x >>"$SALLYPORT_POLICY" || rm -f "$SALLYPORT_POLICY"; } 2>&1',
    ];
    for (const wiring of ['both', 'transparent', 'env']) {
      const { stdout, stderr } = await world.sallyport([...bare, '--wiring', wiring], cat);
      const [text = '', said] = stdout.split(/(?=^sh: )/mu);
      t.equal(text, await listed(), stderr.slice(0, 500));
      t.match(said, /Read-only file system/);
    }
    t.match(await listed(), /^allow +\*\.also\.test +http\/80 /mu);
    const extra = ['--service', 'cache=also.test:6379@1.2.3.4', '--host-port', '3000'];
    const { stdout } = await world.sallyport([...bare, ...extra], ['cat', '/run/sallyport/policy/list']);
    t.match(stdout, /^service +db -> good\.test:5432 /mu);
    t.match(stdout, /^service +cache -> also\.test:6379 .* given for this run$/mu);
    t.match(stdout, /^service +host-3000 -> 127\.0\.0\.1:3000 /mu);
  });

  t.test('is not there without hints', async (t) => {
    const look = ['sh', '-c', 'ls /run/sallyport; echo "${SALLYPORT_POLICY-none}"'];
    const { stdout } = await world.sallyport(['--policy', file, '--no-hints'], look);
    t.equal(stdout, 'entry.sh\ninit\nnone\n');
  });

  t.test('follows a reload', async (t) => {
    const script =
      'echo ready; until ! grep -q 8443 "$SALLYPORT_POLICY"; do sleep 0.1; done; cat "$SALLYPORT_POLICY"; echo end';
    const run = world.start(['--policy', file], ['sh', '-c', script]);
    await run.line('ready');
    write(rules.slice(1));
    run.child.kill('SIGHUP');
    t.equal(await run.ended, 0);
    const from = run.lines.findIndex((line) => line.startsWith('allow'));
    t.equal(`${run.lines.slice(from, run.lines.indexOf('end')).join('\n')}\n`, await listed());
  });
});
