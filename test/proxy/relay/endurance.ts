// What every relay must bear: volume, many tunnels at once and one after another, no descriptors left. Sizes come from the environment.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join as path } from 'node:path';
import t, { type Test } from 'tap';
import type { DataPlane } from '../../../proxy/data-plane.ts';
import { dialWith, listenWith } from '../../helpers/conn.ts';
import { needs } from '../../helpers/needs.ts';
import { openSockets, readAll } from '../../helpers/tcp.ts';
import { digestOf, join, openOver, pour, type Joined } from './joined.ts';

/** Small by default, so that the suite stays quick; the figures of the issue are for a long run. */
const mebibytes = Number(process.env['SALLYPORT_RELAY_MIB'] ?? 128);
const inAll = Number(process.env['SALLYPORT_RELAY_TUNNELS'] ?? 5000);
const atOnce = 10_000;
const batch = 5000;

/** Registers the whole suite over the relay of `plane`. */
export function relayEndurance(plane: DataPlane): void {
  t.test(`${plane.relay.name} relay: ${mebibytes} MiB both ways at once arrive unchanged`, async (t) => {
    const size = mebibytes * 1024 * 1024;
    const { client, upstream, handle } = await join(t, plane);
    const sent = Promise.all([pour(client, size, 1), pour(upstream, size, 2)]);
    const heard = await Promise.all([digestOf(upstream), digestOf(client)]);
    t.same(heard, await sent);
    t.same(await handle.done, { cause: 'both_ended', upBytes: size, downBytes: size });
  });

  t.test(`${plane.relay.name} relay: ${atOnce} tunnels at once`, async (t) => await manyAtOnce(t, plane));
  t.test(`${plane.relay.name} relay: ${inAll} tunnels leave nothing`, async (t) => await manyInAll(t, plane));
  t.test(`${plane.relay.name} relay: no descriptor left`, { skip: needs(t, ['prlimit']) }, (t) => {
    const child = path(import.meta.dirname, 'exhausted.child.ts');
    const { status, stdout, stderr } = spawnSync(process.execPath, [child, plane.relay.name], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    t.equal(`${stdout}${stderr}`, 'an open tunnel carries on\na new one is carried\nas before\n');
    t.equal(status, 0);
    t.end();
  });
}

/** Makes tunnels over one listener; the far ends are the test's. */
async function tunnels(t: Test, plane: DataPlane): Promise<() => Promise<Omit<Joined, 'near'>>> {
  const [left, right] = [await listenWith(plane.network), await listenWith(plane.network)];
  t.teardown(() => {
    left.close();
    right.close();
  });
  return async () => {
    const [{ near: client, far }, { near: upstream, far: farUp }] = [
      await dialWith(left),
      await dialWith(right),
    ];
    return { client: far, upstream: farUp, handle: openOver(plane.relay, { client, upstream }, {}) };
  };
}

async function manyAtOnce(t: Test, plane: DataPlane): Promise<void> {
  const limit = Number(
    /^Max open files +(\d+)/mu.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? 1024,
  );
  // Two far ends and two near ones each.
  const count = Math.min(atOnce, Math.floor((limit - 300) / 4));
  if (count < atOnce) t.comment(`${count} tunnels: the limit on open files is ${limit}`);
  const before = openSockets();
  const open = await tunnels(t, plane);
  const all: Awaited<ReturnType<typeof open>>[] = [];
  while (all.length < count) all.push(await open());
  const isServed = async ({ client, upstream }: (typeof all)[number]): Promise<boolean> => {
    client.write('question');
    const [question] = (await once(upstream.resume(), 'data')) as [Buffer];
    upstream.write('answer');
    const [answer] = (await once(client.resume(), 'data')) as [Buffer];
    return String(question) === 'question' && String(answer) === 'answer';
  };
  const served = await Promise.all(all.filter((_, i) => i % 10 === 0).map(isServed));
  t.ok(served.every(Boolean), `${served.length} of ${count} were used`);
  for (const { handle } of all) handle.sever('draining');
  const causes = new Set((await Promise.all(all.map(({ handle }) => handle.done))).map(({ cause }) => cause));
  t.same([...causes], ['severed']);
  await Promise.all(all.flatMap(({ client, upstream }) => [client, upstream].map(destroyed)));
  t.ok(openSockets() <= before + 2, 'only the listeners are left');
}

async function destroyed(socket: Socket): Promise<void> {
  socket.destroy();
  if (!socket.closed) await once(socket, 'close');
}

const openFiles = (): number => readdirSync('/proc/self/fd').length;

async function manyInAll(t: Test, plane: DataPlane): Promise<void> {
  const one = async (i: number, open: Awaited<ReturnType<typeof tunnels>>): Promise<void> => {
    const tunnel = await open();
    tunnel.client.end('question');
    await readAll(tunnel.upstream);
    if (i % 2 === 0) tunnel.upstream.end('answer');
    else tunnel.handle.sever('draining');
    await tunnel.handle.done;
    await Promise.all([tunnel.client, tunnel.upstream].map(destroyed));
  };
  const run = async (count: number): Promise<number> => {
    // A listener for each batch: clients that closed first keep their ports for a minute.
    for (let done = 0; done < count; done += batch) {
      const open = await tunnels(t, plane);
      let left = Math.min(batch, count - done);
      const worker = async (): Promise<void> => {
        while (left > 0) await one((left -= 1), open);
      };
      await Promise.all(Array.from({ length: 20 }, worker));
    }
    return openFiles();
  };
  const before = await run(100);
  const after = await run(inAll);
  // Each batch has two listeners, which the test closes at its end.
  const listeners = 2 * Math.ceil(inAll / batch);
  t.equal(after - listeners, before, 'no descriptor, neither of a tunnel nor of the relay');
}
