// The splice relay against the contract of all relays, and what only it can get wrong: its threads, and the hand-over.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join as path } from 'node:path';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { chooseDataPlane } from '../../../proxy/data-plane.ts';
import { loadRelayAddon } from '../../../proxy/relay/index.ts';
import { connPair } from '../../helpers/conn.ts';
import { readAll, wasReset } from '../../helpers/tcp.ts';
import { relayConformance } from './conformance.ts';
import { relayEndurance } from './endurance.ts';
import { join, openOver } from './joined.ts';

const addon = loadRelayAddon();
if ('problem' in addon) {
  if (process.env['CI'] !== undefined)
    throw new Error(`the splice relay must be tested here: ${addon.problem}`);
  t.plan(0, `the splice relay cannot be tested: ${addon.problem}`);
  process.exit();
}

const plane = chooseDataPlane('splice');
relayConformance(plane);
relayEndurance(plane);
t.teardown(() => {
  plane.relay.close();
  plane.network.close();
});

/** The threads of relays that run now, by name. */
function threads(): string[] {
  const names = readdirSync('/proc/self/task').map(nameOf);
  return names.filter((name) => /^sallyport-(quick|bulk)$/u.test(name)).toSorted();
}

/** What threads() says while `count` relays run; one of them is `plane`'s. */
function lanes(count: number): string[] {
  return ['sallyport-bulk', 'sallyport-quick'].flatMap((name) => Array<string>(count).fill(name));
}

function nameOf(id: string): string {
  try {
    return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

t.test('the threads end with close(), and what is open or comes later is severed or reset', async (t) => {
  const own = chooseDataPlane('splice');
  t.same(threads(), lanes(2));
  const { client, upstream, handle } = await join(t, own);
  client.end('question');
  t.equal(String(await readAll(upstream)), 'question');
  const told = wasReset(client);
  own.relay.close();
  t.same(await handle.done, { cause: 'severed', upBytes: 8, downBytes: 0 }, 'who is left is severed');
  t.equal(await told, true);
  t.same(threads(), lanes(1));
  const late = await join(t, own);
  t.equal(await wasReset(late.client), true);
  t.equal((await late.handle.done).cause, 'client_error');
  own.network.close();
});

t.test(
  'a tunnel is in the bulk lane while it moves much, and before and after in the quick one',
  async (t) => {
    // The relay of the other tests has no open tunnel by now, so its threads sleep.
    const { client, upstream, handle } = await join(t, plane);
    const trips = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 1) {
        client.write('question');
        await hear(upstream, 8);
        upstream.write('answer');
        await hear(client, 6);
      }
    };
    const wakes = async (work: Promise<unknown>): Promise<{ quick: boolean; bulk: boolean }> => {
      const [quick, bulk] = [switches('sallyport-quick'), switches('sallyport-bulk')];
      await work;
      return {
        quick: switches('sallyport-quick') > quick,
        bulk: switches('sallyport-bulk') > bulk,
      };
    };
    t.same(await wakes(trips(5)), { quick: true, bulk: false });
    const size = 32 * 1024 * 1024;
    upstream.write(Buffer.alloc(size));
    t.match(await wakes(hear(client, size)), { bulk: true });
    await trips(20);
    t.same(await wakes(trips(5)), { quick: true, bulk: false });
    handle.sever('draining');
    await handle.done;
  },
);

/** How often the threads of that name have gone to sleep or were interrupted. */
function switches(name: string): number {
  const tasks = readdirSync('/proc/self/task').filter((id) => nameOf(id) === name);
  const counts = tasks.flatMap((id) => [
    ...readFileSync(`/proc/self/task/${id}/status`, 'utf8').matchAll(/ctxt_switches:\t(\d+)/gu),
  ]);
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

/** Reads until `size` bytes have come. */
async function hear(socket: Socket, size: number): Promise<void> {
  const { promise: isHeard, resolve } = Promise.withResolvers<void>();
  let left = size;
  const count = (chunk: Buffer): void => {
    left -= chunk.length;
    if (left <= 0) resolve();
  };
  socket.on('data', count).resume();
  await isHeard;
  socket.off('data', count).pause();
}

t.test('process.exit() with a tunnel open does not hang', (t) => {
  const child = path(import.meta.dirname, 'leaving.child.ts');
  t.equal(spawnSync(process.execPath, [child], { timeout: 30_000 }).status, 0);
  t.end();
});

t.test('a worker that is terminated with a tunnel open takes its threads along, and no other', async (t) => {
  const { client, upstream } = await join(t, plane);
  const worker = new Worker(path(import.meta.dirname, 'leaving.child.ts'));
  await once(worker, 'message');
  t.same(threads(), lanes(2));
  await worker.terminate();
  t.same(threads(), lanes(1));
  client.end('still here');
  t.equal(String(await readAll(upstream)), 'still here');
});

t.test('what was read before goes over in order, ahead of what comes later, and counts', async (t) => {
  const [left, right] = [await connPair(t, plane.network), await connPair(t, plane.network)];
  left.near.unread(Buffer.from('from the client, '));
  right.near.unread(Buffer.from('from the upstream, '));
  const told = { up: 0, down: 0 };
  const options = {
    sent: { up: 100, down: 200 },
    onBytes: (up: number, down: number) => {
      told.up += up;
      told.down += down;
    },
  };
  const handle = openOver(plane.relay, { client: left.near, upstream: right.near }, options);
  t.same(handle.bytes(), { up: 117, down: 219 });
  left.far.end('later');
  right.far.end('later');
  const [heardDown, heardUp] = await Promise.all([readAll(left.far), readAll(right.far)]);
  t.same([String(heardUp), String(heardDown)], ['from the client, later', 'from the upstream, later']);
  t.same(await handle.done, { cause: 'both_ended', upBytes: 122, downBytes: 224 });
  t.same(told, { up: 22, down: 24 });
});

t.test('what the kernel has not taken before the relay began is not lost', async (t) => {
  const [left, right] = [await connPair(t, plane.network), await connPair(t, plane.network)];
  const stuck = Buffer.alloc(12 * 1024 * 1024, 'a');
  left.near.write(stuck);
  t.equal(left.near.canRelease, false, 'the client does not read yet');
  const handle = openOver(
    plane.relay,
    { client: left.near, upstream: right.near },
    { sent: { up: 0, down: stuck.length } },
  );
  left.far.end('up');
  right.far.end('down');
  const [heardDown, heardUp] = await Promise.all([readAll(left.far), readAll(right.far)]);
  t.equal(String(heardUp), 'up');
  t.equal(heardDown.length, stuck.length + 4);
  t.equal(String(heardDown.subarray(stuck.length)), 'down');
  t.equal((await handle.done).cause, 'both_ended');
});

t.test('bytes of an open tunnel are told while it lives, not only at its end', async (t) => {
  const told: number[] = [];
  const { client, upstream, handle } = await join(t, plane, { onBytes: (up) => void told.push(up) });
  client.write('twelve bytes');
  await once(upstream.resume(), 'data');
  t.same(handle.bytes(), { up: 12, down: 0 }, 'at once to who asks');
  while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  t.same(told, [12]);
  handle.sever('draining');
  await handle.done;
  t.same(told, [12]);
});
