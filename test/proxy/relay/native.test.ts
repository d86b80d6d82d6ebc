// The splice relay against the contract of all relays, and what only it can get wrong: its thread, and the hand-over.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join as path } from 'node:path';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { loadRelayAddon } from '../../../proxy/relay/addon.ts';
import { createSpliceRelay } from '../../../proxy/relay/native.ts';
import { pair, readAll, wasReset } from '../../helpers/tcp.ts';
import { relayConformance } from './conformance.ts';
import { relayEndurance } from './endurance.ts';
import { join, openOver, drains } from './joined.ts';

const addon = loadRelayAddon();
if ('problem' in addon) {
  if (process.env['CI'] !== undefined)
    throw new Error(`the splice relay must be tested here: ${addon.problem}`);
  t.plan(0, `the splice relay cannot be tested: ${addon.problem}`);
  process.exit();
}

const relay = createSpliceRelay(addon);
relayConformance(relay);
relayEndurance(relay);

/** Threads of relays that run now. */
function threads(): number {
  const tasks = readdirSync('/proc/self/task');
  return tasks.filter((id) => nameOf(id) === 'sallyport-relay').length;
}

function nameOf(id: string): string {
  try {
    return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

t.test(
  'the thread starts with the first tunnel and ends with close(); a later tunnel starts another',
  async (t) => {
    const relay = createSpliceRelay(addon);
    const before = threads();
    for (const title of ['first', 'second']) {
      const { client, upstream, handle } = await join(t, relay);
      t.equal(threads(), before + 1, title);
      client.end('question');
      t.equal(String(await readAll(upstream)), 'question');
      const told = wasReset(client);
      relay.close();
      t.same(await handle.done, { cause: 'severed', upBytes: 8, downBytes: 0 }, 'who is left is severed');
      t.equal(await told, true);
      t.equal(threads(), before);
    }
  },
);

t.test('process.exit() with a tunnel open does not hang', (t) => {
  const child = path(import.meta.dirname, 'leaving.child.ts');
  t.equal(spawnSync(process.execPath, [child], { timeout: 30_000 }).status, 0);
  t.end();
});

t.test('a worker that is terminated with a tunnel open takes its thread along, and no other', async (t) => {
  const { client, upstream } = await join(t, relay);
  const before = threads();
  const worker = new Worker(path(import.meta.dirname, 'leaving.child.ts'));
  await once(worker, 'message');
  t.equal(threads(), before + 1);
  await worker.terminate();
  t.equal(threads(), before);
  client.end('still here');
  t.equal(String(await readAll(upstream)), 'still here');
});

t.test(
  'what JavaScript had read or not yet written goes over in order, ahead of what comes later',
  async (t) => {
    const [left, right] = [await pair(t), await pair(t)];
    const stuck = Buffer.alloc(12 * 1024 * 1024, 'a');
    left.far.write('from the client, ');
    right.far.write('from the upstream, ');
    for (const { near } of [left, right]) {
      const [chunk] = (await once(near.resume(), 'data')) as [Buffer];
      near.pause().unshift(chunk);
    }
    left.near.write(stuck);
    t.notOk(await drains(left.near), 'the client does not read yet');
    const told = { up: 0, down: 0 };
    const handle = openOver(
      relay,
      { client: left.near, upstream: right.near },
      {
        toUpstream: Buffer.from('hello, '),
        sent: { up: 100, down: stuck.length },
        onBytes: (up, down) => {
          told.up += up;
          told.down += down;
        },
      },
    );
    t.same(handle.bytes(), { up: 100 + 24, down: stuck.length + 19 });
    left.far.end('later');
    right.far.end('later');
    const [heardDown, heardUp] = await Promise.all([readAll(left.far), readAll(right.far)]);
    t.equal(String(heardUp), 'hello, from the client, later');
    t.equal(heardDown.length, stuck.length + 24);
    t.equal(String(heardDown.subarray(stuck.length)), 'from the upstream, later');
    t.same(await handle.done, { cause: 'both_ended', upBytes: 129, downBytes: stuck.length + 24 });
    t.same(told, { up: 29, down: 24 });
  },
);

const endings = {
  severed: (handle) => handle.sever('policy_changed'),
  client_error: (_, { far }) => far.resetAndDestroy(),
  idle: () => {},
} satisfies Record<
  string,
  (handle: ReturnType<typeof openOver>, left: Awaited<ReturnType<typeof pair>>) => unknown
>;

for (const [cause, end] of Object.entries(endings)) {
  t.test(`a tunnel that waits to be handed over can end: ${cause}`, async (t) => {
    const [left, right] = [await pair(t), await pair(t)];
    left.near.write(Buffer.alloc(12 * 1024 * 1024));
    const idleTimeoutMs = cause === 'idle' ? 20 : 60_000;
    const handle = openOver(relay, { client: left.near, upstream: right.near }, { idleTimeoutMs });
    const told = wasReset(right.far);
    end(handle, left);
    t.equal((await handle.done).cause, cause);
    t.equal(await told, true);
  });
}

t.test('bytes of an open tunnel are told while it lives, not only at its end', async (t) => {
  const told: number[] = [];
  const { client, upstream, handle } = await join(t, relay, { onBytes: (up) => void told.push(up) });
  client.write('twelve bytes');
  await once(upstream.resume(), 'data');
  t.same(handle.bytes(), { up: 12, down: 0 }, 'at once to who asks');
  while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  t.same(told, [12]);
  handle.sever('draining');
  await handle.done;
  t.same(told, [12]);
});
