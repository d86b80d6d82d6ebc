// What the set-up engine must bear: buffers that overflow, no descriptor left, ids given up in the middle of a batch, several threads, and its end.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { constants } from 'node:os';
import { join as path } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { needs } from '../../helpers/needs.ts';
import { readAll } from '../../helpers/tcp.ts';
import { addonUnderTest, callTo, echo, joined, openFiles, rigFor, startRig } from './rig.ts';

const clients = 300;
const inAll = Number(process.env['SALLYPORT_CONN_CONNECTIONS'] ?? 20_000);
const { EBADF } = constants.errno;

/** Registers the suite. */
export function connEndurance(): void {
  t.test(`${clients} clients at once lose nothing to a buffer of 4 events and a tiny arena`, async (t) => {
    const rig = rigFor(t, { events: 4, arena: 512, on: echo });
    const { port } = rig.listen(100);
    const answers = Array.from({ length: clients }, async (_, i) => {
      const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      client.end(`client ${i} `.repeat(1 + (i % 40)));
      return String(await readAll(client));
    });
    const right = Array.from({ length: clients }, (_, i) => `client ${i} `.repeat(1 + (i % 40)));
    t.same(await Promise.all(answers), right);
    t.ok(rig.batches.every((count) => count <= 4));
    t.ok(rig.batches.includes(4), 'it has overflowed');
  });

  t.test(
    'clients are turned away while no descriptor is left, then served again',
    {
      skip: needs(t, ['prlimit']),
    },
    (t) => {
      const child = path(import.meta.dirname, 'exhausted.child.ts');
      const { status, stdout, stderr } = spawnSync(process.execPath, [child], {
        encoding: 'utf8',
        timeout: 60_000,
      });
      t.equal(`${stdout}${stderr}`, 'turned away: 10 of 10\nfewer events than clients\nserved again\n');
      t.equal(status, 0);
      t.end();
    },
  );

  t.test('an id that was given up in a batch is used again only after it', async (t) => {
    const seen: number[] = [];
    const rig = rigFor(t, {
      on({ kind, id }, { addon, engine }) {
        if (kind !== 'data') return;
        addon.close(engine, id, false);
        seen.push(id, addon.connect(engine, '127.0.0.1', port));
      },
    });
    const { port } = rig.listen();
    const { client, id } = await joined(t, rig);
    rig.read(id);
    client.write('x');
    while (seen.length === 0) await turn();
    const [closed = -1, opened] = seen;
    t.not(opened, closed);
    t.equal(rig.addon.write(rig.engine, closed, Buffer.from('x')), -EBADF);
    t.equal(rig.addon.connect(rig.engine, '127.0.0.1', port), closed, 'now it is free');
  });

  t.test('reading while a batch is told leaves the bytes of that batch alone', async (t) => {
    const told = new Map<number, string>();
    const rig = rigFor(t, {
      arena: 4096,
      on({ kind, a, b }, rig) {
        if (kind !== 'data') return;
        for (const id of told.keys()) {
          rig.read(id, 1024);
          rig.addon.write(rig.engine, id, Buffer.from('x'));
        }
        told.set(told.size, Buffer.from(rig.arena.subarray(a, a + b)).toString());
      },
    });
    const fd = rig.addon.bind('127.0.0.1', 0, false, 16);
    for (const text of ['first', 'second', 'third']) {
      const client = await callTo(t, rig.addon.portOf(fd));
      await new Promise((sent) => client.write(text.repeat(10), sent));
    }
    rig.addon.listen(rig.engine, fd, 1024);
    while (told.size < 3) await turn();
    t.same(
      [...told.values()],
      ['first', 'second', 'third'].map((text) => text.repeat(10)),
    );
  });

  t.test(`${inAll} connections one after another leave no descriptor`, async (t) => {
    const rig = startRig();
    const { addon, engine } = rig;
    const { port } = rig.listen();
    const before = openFiles();
    let highest = 0;
    for (let i = 0; i < inAll; i += 1) {
      const id = addon.connect(engine, '127.0.0.1', port);
      const near = await rig.next('accept');
      await rig.next('connected', id);
      highest = Math.max(highest, id, near.id);
      // A FIN would keep the port for a minute.
      addon.close(engine, i % 2 === 0 ? id : near.id, true);
      await rig.next('gone', i % 2 === 0 ? near.id : id);
      addon.close(engine, i % 2 === 0 ? near.id : id, false);
    }
    t.equal(openFiles(), before);
    t.ok(highest < 5, 'ids are used again');
    addon.stop(engine);
  });

  t.test(
    'stop() with everything open leaves no descriptor, and later calls nothing but -EBADF',
    async (t) => {
      const before = openFiles();
      const rig = startRig();
      const { addon, engine } = rig;
      const { port, id: listener } = rig.listen();
      for (let i = 0; i < 50; i += 1) addon.connect(engine, '127.0.0.1', port);
      const { id } = await rig.next('accept');
      addon.wantWrite(engine, id);
      addon.stop(engine);
      t.equal(openFiles(), before);
      addon.stop(engine);
      addon.hold(engine, true);
      const late = [
        addon.read(engine, id, 10, false, 0),
        addon.unread(engine, id),
        addon.write(engine, id, Buffer.from('x')),
        addon.wantWrite(engine, id),
        addon.finish(engine, id),
        addon.close(engine, id, true),
        addon.release(engine, id),
        addon.unlisten(engine, listener),
        addon.connect(engine, '127.0.0.1', port),
        addon.listen(engine, 0, 0),
        addon.adopt(engine, 0),
      ];
      t.same([...new Set(late)], [-EBADF]);
    },
  );

  t.test('stop() within a batch ends that engine and no other', async (t) => {
    const stopped = Promise.withResolvers<void>();
    const other = rigFor(t);
    const rig = startRig({
      on({ kind }, { addon, engine }) {
        if (kind !== 'accept') return;
        addon.stop(engine);
        stopped.resolve();
      },
    });
    const client = await callTo(t, rig.listen().port);
    client.write('x');
    await stopped.promise;
    await joined(t, other);
    t.same(rig.batches.length, 1);
  });

  t.test('an engine that nobody has any more closes what it had', async (t) => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const before = openFiles();
    const addon = addonUnderTest();
    (() => {
      const engine = addon.create(() => {}, new Int32Array(100), new Uint8Array(4096));
      if (typeof engine !== 'number') addon.listen(engine, addon.bind('127.0.0.1', 0, false, 1), 0);
    })();
    t.ok(openFiles() > before);
    for (let turns = 0; turns < 100 && openFiles() > before; turns += 1) {
      collect();
      await turn();
    }
    t.equal(openFiles(), before);
  });

  const later = {
    settles: ['batch 1', 'settled 1', 'batch 2', 'settled 2'],
    throws: ['batch 1', 'thrown 1', 'batch 2', 'thrown 2'],
  };
  for (const [mode, lines] of Object.entries(later)) {
    t.test(`a handler that ${mode} has done so before the next batch, which comes all the same`, (t) => {
      const child = path(import.meta.dirname, 'leaving.child.ts');
      const { stdout, stderr, status } = spawnSync(process.execPath, [child, mode], {
        encoding: 'utf8',
        timeout: 30_000,
      });
      t.same(`${stdout}${stderr}`.trim().split('\n'), lines);
      t.equal(status, 0);
      t.end();
    });
  }

  t.test('a process ends by itself when nothing is held, and not before', async (t) => {
    const child = path(import.meta.dirname, 'leaving.child.ts');
    t.equal(spawnSync(process.execPath, [child, 'unheld'], { timeout: 30_000 }).status, 0);
    t.equal(spawnSync(process.execPath, [child, 'exits'], { timeout: 30_000 }).status, 7);
    const held = spawn(process.execPath, [child, 'held'], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => held.kill());
    const [port] = (await once(held.stdout, 'data')) as [Buffer];
    t.equal(held.exitCode, null);
    const client = await callTo(t, Number(port));
    client.end('you may go');
    t.same(await once(held, 'exit'), [0, null]);
  });

  t.test(
    'two engines on two threads serve side by side, and a thread that is ended takes its own along',
    async (t) => {
      const before = openFiles();
      const child = path(import.meta.dirname, 'leaving.child.ts');
      const workers = [1, 2].map(() => new Worker(child, { argv: ['echo'] }));
      const ports = await Promise.all(
        workers.map(async (worker) => (await once(worker, 'message')) as [number]),
      );
      const asks = async (port: number, text: string): Promise<string> => {
        const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
        client.end(text);
        return String(await readAll(client));
      };
      const texts = Array.from({ length: 200 }, (_, i) => `question ${i}`);
      const answers = texts.map(async (text, i) => await asks(ports[i % 2]?.[0] ?? 0, text));
      t.same(await Promise.all(answers), texts);
      const left = await callTo(t, ports[0]?.[0] ?? 0);
      // Before: an end that nobody hears is told once all the same.
      const ended = readAll(left).catch(() => {});
      await workers[0]?.terminate();
      await ended;
      t.equal(await asks(ports[1]?.[0] ?? 0, 'still here'), 'still here');
      await workers[1]?.terminate();
      left.destroy();
      for (let turns = 0; turns < 1000 && openFiles() > before; turns += 1) await turn();
      t.equal(openFiles(), before);
    },
  );

  t.test('what is not a number, an engine or bytes is a bug, and thrown', (t) => {
    const rig = rigFor(t);
    const { addon, engine } = rig;
    const wrong: [keyof typeof addon, ...unknown[]][] = [
      ['bind', 1, 0, false, 1],
      ['bind', '127.0.0.1', 65_536, false, 1],
      ['create', () => {}, new Int32Array(9), new Uint8Array(4096)],
      ['create', () => {}, new Int32Array(100), new Uint8Array(511)],
      ['create', {}, new Int32Array(100), new Uint8Array(4096)],
      ['listen', {}, 0, 0],
      ['read', engine, 0, 1, false],
      ['write', engine, 0, 'text'],
      ['close', engine, -1, false],
      ['close', engine, Number.NaN, false],
      ['unlisten', engine],
      ['hold', engine, 1],
    ];
    for (const [name, ...values] of wrong)
      t.throws(() => void Reflect.apply(addon[name], addon, values), { name: 'TypeError' }, name);
    t.equal(addon.close(engine, 12_345, false), -EBADF, 'an id that is none is not');
    t.end();
  });
}
