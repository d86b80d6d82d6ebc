// What every relay must do, as one suite that runs over any of them. Real sockets on loopback; tests wait for events only.
import { once } from 'node:events';
import t, { type Test } from 'tap';
import type { DataPlane } from '../../../proxy/data-plane.ts';
import type { RelayEnd } from '../../../proxy/relay/index.ts';
import { bytesHeldBy, connPair, goneFrom } from '../../helpers/conn.ts';
import { openSockets, readAll, wasReset } from '../../helpers/tcp.ts';
import { closeFarEnds, digestOf, drains, join, openOver, pour, type Joined, type Options } from './joined.ts';

/** Registers the whole suite over the relay of `plane`. */
export function relayConformance(plane: DataPlane): void {
  t.test(`${plane.relay.name} relay: half-close`, async (t) => await halfClose(t, plane));
  t.test(`${plane.relay.name} relay: resets`, async (t) => await resets(t, plane));
  t.test(`${plane.relay.name} relay: volume and back-pressure`, async (t) => await volume(t, plane));
  t.test(`${plane.relay.name} relay: sever`, async (t) => await sever(t, plane));
  t.test(`${plane.relay.name} relay: idle and budgets`, async (t) => await limits(t, plane));
  t.test(`${plane.relay.name} relay: nothing is left behind`, async (t) => await leaks(t, plane));
}

async function halfClose(t: Test, plane: DataPlane): Promise<void> {
  t.test('the client may finish first: the upstream still answers in full', async (t) => {
    const { client, upstream, handle } = await join(t, plane);
    client.end('question');
    t.equal(String(await readAll(upstream)), 'question');
    upstream.end('answer');
    t.equal(String(await readAll(client)), 'answer');
    t.same(await handle.done, { cause: 'both_ended', upBytes: 8, downBytes: 6 });
  });

  t.test('the upstream may finish first: the client still speaks in full', async (t) => {
    const { client, upstream, handle } = await join(t, plane);
    upstream.end('greeting');
    t.equal(String(await readAll(client)), 'greeting');
    client.write('one ');
    client.end('two');
    t.equal(String(await readAll(upstream)), 'one two');
    t.same(await handle.done, { cause: 'both_ended', upBytes: 7, downBytes: 8 });
  });

  t.test('both may finish at once, without a byte', async (t) => {
    const { client, upstream, handle } = await join(t, plane);
    client.end();
    upstream.end();
    await Promise.all([readAll(client), readAll(upstream)]);
    t.same(await handle.done, { cause: 'both_ended', upBytes: 0, downBytes: 0 });
  });

  t.test('a FIN that came before the relay was opened is passed on, behind the data before it', async (t) => {
    const [left, right] = [await connPair(t, plane.network), await connPair(t, plane.network)];
    left.far.end('early');
    right.far.end('birds');
    await Promise.all([once(left.far, 'finish'), once(right.far, 'finish')]);
    const handle = openOver(plane.relay, { client: left.near, upstream: right.near }, {});
    const heard = await Promise.all([readAll(right.far), readAll(left.far)]);
    t.same(heard.map(String), ['early', 'birds']);
    t.equal((await handle.done).cause, 'both_ended');
  });

  t.test('what was sniffed goes upstream first and is counted', async (t) => {
    const told = { up: 0, down: 0 };
    const onBytes = (up: number, down: number): void => {
      told.up += up;
      told.down += down;
    };
    const { client, upstream, handle } = await join(t, plane, { held: Buffer.from('hello '), onBytes });
    client.end('world');
    t.equal(String(await readAll(upstream)), 'hello world');
    upstream.end('ok');
    await readAll(client);
    t.same(await handle.done, { cause: 'both_ended', upBytes: 11, downBytes: 2 });
    t.same(told, { up: 11, down: 2 }, 'live deltas add up to the same');
    t.same(handle.bytes(), { up: 11, down: 2 });
  });

  t.test('a byte at a time, both ways at once, arrives whole and in order', async (t) => {
    const { client, upstream, handle } = await join(t, plane);
    const text = 'abcdefghijklmnopqrstuvwxyz'.repeat(20);
    const heard = Promise.all([readAll(client), readAll(upstream)]);
    for (const letter of text) {
      client.write(letter);
      upstream.write(letter);
      await new Promise((resolve) => setImmediate(resolve));
    }
    client.end();
    upstream.end();
    t.same((await heard).map(String), [text, text]);
    t.same(await handle.done, { cause: 'both_ended', upBytes: text.length, downBytes: text.length });
  });
}

async function resets(t: Test, plane: DataPlane): Promise<void> {
  const sides = [
    ['client', 'upstream', 'client_error'],
    ['upstream', 'client', 'upstream_error'],
  ] as const;
  for (const [broken, other, cause] of sides) {
    t.test(`a RST of the ${broken} resets the ${other}, and the end says who broke`, async (t) => {
      const joined = await join(t, plane);
      const told = wasReset(joined[other]);
      joined[broken].resetAndDestroy();
      t.equal((await joined.handle.done).cause, cause);
      t.equal(await told, true);
    });

    t.test(`a RST of the ${broken} after data was passed on is not a clean end`, async (t) => {
      const joined = await join(t, plane);
      joined[broken].write('half a sent');
      const [data] = (await once(joined[other].resume(), 'data')) as [Buffer];
      const told = wasReset(joined[other]);
      joined[broken].resetAndDestroy();
      t.equal((await joined.handle.done).cause, cause);
      t.same([String(data), await told], ['half a sent', true]);
    });

    t.test(`a RST of the ${broken} after the ${other} has finished is still a broken end`, async (t) => {
      const joined = await join(t, plane);
      joined[other].end('all');
      t.equal(String(await readAll(joined[broken])), 'all');
      joined[broken].resetAndDestroy();
      t.equal((await joined.handle.done).cause, cause);
    });

    t.test(`a ${broken} that has closed for good and is still sent data ends the tunnel`, async (t) => {
      const joined = await join(t, plane);
      joined[broken].end();
      t.equal((await readAll(joined[other])).length, 0);
      joined[broken].destroy();
      const told = wasReset(joined[other]);
      const feed = setInterval(() => joined[other].write('more'), 1);
      t.teardown(() => clearInterval(feed));
      t.equal((await joined.handle.done).cause, cause);
      t.equal(await told, true);
    });

    t.test(
      `a RST of the ${broken} with its data stuck is a broken end once the ${other} reads on`,
      async (t) => {
        const joined = await join(t, plane);
        joined[broken].write(Buffer.alloc(16 * 1024 * 1024));
        await drains(joined[broken]);
        joined[broken].resetAndDestroy();
        t.equal(await wasReset(joined[other]), true);
        t.equal((await joined.handle.done).cause, cause);
      },
    );

    t.test(`a ${broken} that was dead before the relay was opened is an end, not an exception`, async (t) => {
      const [left, right] = [await connPair(t, plane.network), await connPair(t, plane.network)];
      const near = { client: left.near, upstream: right.near };
      near[broken].close();
      await goneFrom(near[broken]);
      const handle = openOver(plane.relay, near, { held: Buffer.from('hello') });
      t.equal((await handle.done).cause, cause);
      t.equal(near[other].isGone, true);
    });
  }

  t.test('both sides reset at once: one end, one cause', async (t) => {
    const { client, upstream, handle } = await join(t, plane);
    client.resetAndDestroy();
    upstream.resetAndDestroy();
    t.match((await handle.done).cause, /^(client|upstream)_error$/);
  });
}

async function volume(t: Test, plane: DataPlane): Promise<void> {
  const size = 64 * 1024 * 1024;

  t.test('64 MiB both ways at once arrive unchanged', async (t) => {
    const { client, upstream, handle } = await join(t, plane);
    const sent = await Promise.all([
      pour(client, size, 1),
      pour(upstream, size, 2),
      digestOf(upstream),
      digestOf(client),
    ]);
    t.same([sent[2], sent[3]], [sent[0], sent[1]]);
    t.same(await handle.done, { cause: 'both_ended', upBytes: size, downBytes: size });
  });

  t.test('a reader that stops makes the writer stop: memory does not grow with what is sent', async (t) => {
    const { client, upstream, near, handle } = await join(t, plane);
    const chunk = Buffer.alloc(256 * 1024, 7);
    // Until the writer has been stuck for a while of loop turns: everything in between is full.
    let sent = 0;
    let isStuck = false;
    while (!isStuck) {
      client.write(chunk);
      sent += chunk.length;
      isStuck = !(await drains(client));
    }
    t.ok(bytesHeldBy(near.upstream) + bytesHeldBy(near.client) < 1024 * 1024, 'less than 1 MiB is held');
    client.end();
    t.equal((await readAll(upstream)).length, sent, 'and nothing of it is lost when reading goes on');
    upstream.end();
    await readAll(client);
    t.equal((await handle.done).cause, 'both_ended');
  });
}

async function sever(t: Test, plane: DataPlane): Promise<void> {
  const states: Record<string, (joined: Joined) => Promise<unknown>> = {
    'just opened': async () => {},
    'after traffic': async ({ client, upstream }) => {
      client.write('x');
      await once(upstream.resume(), 'data');
    },
    'client finished': async ({ client, upstream }) => {
      client.end();
      await readAll(upstream).catch(String);
    },
    'upstream finished': async ({ client, upstream }) => {
      upstream.end();
      await readAll(client).catch(String);
    },
    'data stuck towards the upstream': async ({ client }) => {
      client.write(Buffer.alloc(16 * 1024 * 1024));
      await drains(client);
    },
    'data and FIN stuck towards the client': async ({ upstream }) => {
      upstream.end(Buffer.alloc(16 * 1024 * 1024));
      await drains(upstream);
    },
  };
  for (const [state, reach] of Object.entries(states)) {
    t.test(`sever, ${state}: both sides are closed at once and the reason is kept`, async (t) => {
      const joined = await join(t, plane);
      await reach(joined);
      joined.handle.sever('policy_changed');
      joined.handle.sever('draining');
      const { cause, severReason } = await joined.handle.done;
      t.same([cause, severReason], ['severed', 'policy_changed']);
      t.ok(joined.near.client.isGone && joined.near.upstream.isGone);
    });
  }

  t.test(
    'a severed tunnel is reset on both sides, so that neither takes half a stream for a whole one',
    async (t) => {
      const { client, upstream, handle } = await join(t, plane);
      const told = Promise.all([wasReset(client), wasReset(upstream)]);
      handle.sever('policy_changed');
      t.same(await told, [true, true]);
    },
  );

  t.test('sever while a FIN is on its way, at any moment of it, closes the descriptors', async (t) => {
    const before = openSockets();
    for (let turns = 0; turns < 20; turns += 1) {
      const joined = await join(t, plane);
      joined.upstream.end();
      for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      joined.handle.sever('draining');
      t.equal((await joined.handle.done).cause, 'severed');
      await closeFarEnds(joined);
    }
    t.equal(openSockets(), before);
  });

  t.test('sever after the end changes nothing', async (t) => {
    const { client, upstream, handle } = await join(t, plane);
    client.end();
    upstream.end();
    await Promise.all([readAll(client), readAll(upstream)]);
    const end = await handle.done;
    handle.sever('policy_changed');
    t.equal(await handle.done, end);
    t.equal(end.cause, 'both_ended');
  });
}

async function limits(t: Test, plane: DataPlane): Promise<void> {
  t.test('a tunnel that is silent both ways is cut, with cause idle', async (t) => {
    const { client, upstream, handle } = await join(t, plane, { idleTimeoutMs: 20 });
    const told = Promise.all([wasReset(client), wasReset(upstream)]);
    t.same(await handle.done, { cause: 'idle', upBytes: 0, downBytes: 0 });
    t.same(await told, [true, true]);
  });

  t.test('half a conversation keeps a tunnel alive: idle means both directions', async (t) => {
    const { client, upstream, handle } = await join(t, plane, { idleTimeoutMs: 400 });
    client.end();
    await readAll(upstream);
    client.resume();
    const startedAt = performance.now();
    // Longer than the limit in all, never silent for long.
    while (performance.now() - startedAt < 800) {
      upstream.write('.');
      await once(client, 'data');
    }
    upstream.end();
    t.equal((await handle.done).cause, 'both_ended');
  });

  const budgets: readonly [string, Options, 'client' | 'upstream'][] = [
    ['up', { maxUpBytes: 1000 }, 'client'],
    ['down', { maxDownBytes: 1000 }, 'upstream'],
  ];
  for (const [way, options, sender] of budgets) {
    t.test(`exactly the ${way} budget passes and ends cleanly`, async (t) => {
      const joined = await join(t, plane, options);
      const receiver = sender === 'client' ? joined.upstream : joined.client;
      joined[sender].end(Buffer.alloc(1000));
      t.equal((await readAll(receiver)).length, 1000);
      receiver.end();
      t.equal((await joined.handle.done).cause, 'both_ended');
    });

    t.test(`one byte over the ${way} budget cuts the tunnel and does not get through`, async (t) => {
      const joined = await join(t, plane, options);
      const receiver = sender === 'client' ? joined.upstream : joined.client;
      let heard = 0;
      receiver.on('data', (chunk: Buffer) => (heard += chunk.length));
      const told = wasReset(receiver);
      for (let i = 0; i < 10; i += 1) joined[sender].write(Buffer.alloc(300));
      const end = await joined.handle.done;
      t.equal(await told, true);
      t.equal(end.cause, 'limit_bytes');
      t.ok(heard <= 1000, `${heard} bytes arrived`);
      t.equal(way === 'up' ? end.upBytes : end.downBytes, 1000);
    });
  }

  t.test('sniffed bytes count against the up budget', async (t) => {
    const { upstream, handle } = await join(t, plane, { held: Buffer.alloc(50), maxUpBytes: 40 });
    const told = wasReset(upstream);
    t.match(await handle.done, { cause: 'limit_bytes', upBytes: 40 });
    t.equal(await told, true);
  });
}

async function leaks(t: Test, plane: DataPlane): Promise<void> {
  t.test(
    '200 tunnels ended in every way leave no descriptor, no timer and no listener warning',
    async (t) => {
      const warnings: unknown[] = [];
      const onWarning = (warning: unknown): void => void warnings.push(warning);
      process.on('warning', onWarning);
      t.teardown(() => process.off('warning', onWarning));
      const before = [openSockets(), timers()];
      const causes = new Set<RelayEnd['cause']>();
      for (let i = 0; i < 200; i += 1) {
        const joined = await join(t, plane);
        await endings[i % endings.length]?.(joined);
        causes.add((await joined.handle.done).cause);
        await closeFarEnds(joined);
      }
      t.same([openSockets(), timers()], before);
      t.same(warnings, []);
      t.same([...causes].sort(), ['both_ended', 'client_error', 'severed', 'upstream_error']);
    },
  );
}

/** Timers that are set now. */
function timers(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
}

const endings: readonly ((joined: Joined) => Promise<unknown>)[] = [
  async ({ client, upstream }) => {
    client.end('x');
    upstream.end('y');
    await Promise.all([readAll(client), readAll(upstream)]);
  },
  async ({ client }) => client.resetAndDestroy(),
  async ({ upstream }) => upstream.resetAndDestroy(),
  async ({ handle }) => handle.sever('draining'),
];
