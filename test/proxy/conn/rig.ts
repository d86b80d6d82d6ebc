// An engine under test: its events as objects that can be waited for, and a listener of its own. Judges nothing.
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { Test } from 'tap';
import {
  eventFields,
  eventTypes,
  loadConnAddon,
  type ConnAddon,
  type ConnEngine,
} from '../../../proxy/conn/addon.ts';

type Kind = keyof typeof eventTypes;

/** An event, with the text that an `accept` or `data` has in the arena. */
export interface Told {
  readonly kind: Kind;
  readonly id: number;
  readonly a: number;
  readonly b: number;
  readonly listener: number;
  readonly text: string;
}

interface Options {
  readonly events?: number;
  readonly arena?: number;
  /** Called in the batch, for each event. */
  readonly on?: (told: Told, rig: Rig) => void;
}

/** One engine; what it tells is kept in order until next() takes it. */
export interface Rig {
  readonly addon: ConnAddon;
  readonly engine: ConnEngine;
  readonly arena: Uint8Array;
  /** Events that nobody took yet. */
  readonly told: Told[];
  /** Events in each batch. */
  readonly batches: number[];
  /** The next event of this kind, of this connection if one is given. Others stay. */
  next(kind: Kind, id?: number): Promise<Told>;
  /** A new listener on a free port. */
  listen(headBytes?: number): { readonly id: number; readonly port: number };
  /** read() of up to `maxBytes`: the text, '' for FIN, or -errno. */
  read(id: number, maxBytes?: number): string | number;
  /** Like read(), but looks: answered when there is more than `beyond`. */
  peek(id: number, beyond?: number): string | number;
}

/** The addon; throws why not. */
export function addonUnderTest(): ConnAddon {
  const addon = loadConnAddon();
  if ('problem' in addon) throw new Error(addon.problem);
  return addon;
}

const kinds = new Map<number, Kind>();
for (const [kind, number] of Object.entries(eventTypes)) kinds.set(number, kind as Kind);

/** Starts an engine that keeps the process alive; stopping it is the caller's. */
export function startRig({ events = 1024, arena: size = 262_144, on }: Options = {}): Rig {
  const addon = addonUnderTest();
  const numbers = new Int32Array(events * eventFields);
  const arena = new Uint8Array(size);
  const told: Told[] = [];
  const batches: number[] = [];
  const waiting: { fits: (told: Told) => boolean; take: (told: Told) => void }[] = [];
  const textAt = (start: number, length: number): string =>
    Buffer.from(arena.buffer, start, length).toString('latin1');
  const hear = (event: Told): void => {
    const waiter = waiting.findIndex(({ fits }) => fits(event));
    if (waiter === -1) told.push(event);
    else for (const { take } of waiting.splice(waiter, 1)) take(event);
  };
  const engine = addon.create(
    (count) => {
      batches.push(count);
      for (let i = 0; i < count; i += 1) {
        const [type = 0, id = -1, a = 0, b = 0, listener = -1] = numbers.subarray(i * eventFields);
        const kind = kinds.get(type);
        if (kind === undefined) throw new Error(`an event of type ${type}`);
        const hasText = kind === 'accept' || kind === 'data';
        const event = { kind, id, a, b, listener, text: hasText ? textAt(a, b) : '' };
        on?.(event, rig);
        hear(event);
      }
    },
    numbers,
    arena,
  );
  if (typeof engine === 'number') throw new Error(`no engine: ${engine}`);
  addon.hold(engine, true);
  const readWith = (id: number, maxBytes: number, isPeek: boolean, beyond: number): string | number => {
    const count = addon.read(engine, id, maxBytes, isPeek, beyond);
    return count < 0 ? count : textAt(0, count);
  };
  const rig: Rig = {
    addon,
    engine,
    arena,
    told,
    batches,
    async next(kind, id) {
      const fits = (event: Told): boolean => event.kind === kind && (id === undefined || event.id === id);
      const at = told.findIndex(fits);
      const [event] = at === -1 ? [] : told.splice(at, 1);
      return event ?? (await new Promise<Told>((take) => waiting.push({ fits, take })));
    },
    listen(headBytes = 16_384) {
      const fd = addon.bind('127.0.0.1', 0, false, 511);
      return { port: addon.portOf(fd), id: addon.listen(engine, fd, headBytes) };
    },
    read: (id, maxBytes = 16_384) => readWith(id, maxBytes, false, 0),
    peek: (id, beyond = 0) => readWith(id, 16_384, true, beyond),
  };
  return rig;
}

/** Says what a client says back to it, until its FIN; to be called for each event. */
export function echo({ kind, id, text }: Told, rig: Rig): void {
  const { addon, engine } = rig;
  // Reading waits for the next batch: what a new client has said already is told first.
  if (kind === 'accept') addon.wantWrite(engine, id);
  if (kind === 'data' && text === '') addon.close(engine, id, false);
  if (kind === 'data') addon.write(engine, id, Buffer.from(text, 'latin1'));
  if (kind !== 'data' && kind !== 'writable') return;
  for (;;) {
    const bytes = rig.read(id);
    if (bytes === '') addon.close(engine, id, false);
    if (typeof bytes === 'number' || bytes === '') return;
    addon.write(engine, id, Buffer.from(bytes, 'latin1'));
  }
}

/** Descriptors that this process holds open now. */
export function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

/** An engine that ends with the test. */
export function rigFor(t: Test, options: Parameters<typeof startRig>[0] = {}): Rig {
  const rig = startRig(options);
  t.teardown(() => rig.addon.stop(rig.engine));
  return rig;
}

/** A connected client of `port`, which the test ends. */
export async function callTo(t: Test, port: number): Promise<Socket> {
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  client.on('error', () => {});
  t.teardown(() => client.destroy());
  await once(client, 'connect');
  return client;
}

/** A client and the connection that the engine has with it. */
export async function joined(t: Test, rig: Rig, headBytes = 0): Promise<{ client: Socket; id: number }> {
  const { port } = rig.listen(headBytes);
  const client = await callTo(t, port);
  return { client, id: (await rig.next('accept')).id };
}
