// Connections by the native engine: hands its events to whom they concern. Reads no meaning into any byte.
import type { Address } from '../../policy/index.ts';
import { unmapped, type Endpoint } from '../endpoint.ts';
import { eventFields, eventTypes, type ConnAddon } from './addon.ts';
import { codeOf } from './descriptor.ts';
import { NativeConn, type Home } from './native-conn.ts';
import type { Accepting, Connecting, ListenAt, Network, OpenListener } from './types.ts';

const [maxEvents, arenaBytes] = [1024, 262_144];
/** Connections that wait to be accepted; the kernel has a bound of its own (somaxconn). */
const backlog = 4096;
/** Most of a client's first bytes that are read with its accept. */
const firstBytes = 16_384;
/** No kind of event: one that was told already. */
const told = 0;

/** @throws Error when the machine has no descriptor left for it */
export function createNativeNetwork(addon: ConnAddon): Network {
  return new NativeNetwork(addon);
}

class NativeNetwork implements Network {
  readonly name = 'native';
  readonly #home: Home;
  readonly #events = new Int32Array(maxEvents * eventFields);
  readonly #conns = new Map<number, NativeConn>();
  readonly #listeners = new Map<number, Accepting>();
  readonly #attempts = new Map<number, { readonly to: Endpoint; readonly on: Connecting }>();
  #isHeld = false;

  constructor(addon: ConnAddon) {
    const arena = Buffer.alloc(arenaBytes);
    const engine = addon.create((count) => this.#hear(count), this.#events, arena);
    if (typeof engine === 'number') throw systemError('epoll_create', -engine);
    this.#home = { addon, engine, arena, forget: (id) => this.#forget(id) };
  }

  async listen({ address, port, fd: given }: ListenAt, on: Accepting): Promise<OpenListener> {
    const { addon, engine } = this.#home;
    const fd = given ?? addon.bind(address, port, false, backlog);
    if (fd < 0) throw listenError(-fd, address, port);
    const id = addon.listen(engine, fd, firstBytes);
    if (id < 0) throw listenError(-id, address, port);
    this.#listeners.set(id, on);
    this.#hold();
    const close = (): void => {
      if (!this.#listeners.delete(id)) return;
      addon.unlisten(engine, id);
      this.#hold();
    };
    return { address, port: addon.portOf(fd), close };
  }

  connect(address: Address, port: number, on: Connecting): () => void {
    const { addon, engine } = this.#home;
    const id = addon.connect(engine, address.text, port);
    if (id < 0) return this.#failSoon(codeOf(-id), on);
    this.#attempts.set(id, { to: { address: address.text, port }, on });
    this.#hold();
    return () => {
      if (this.#attempts.delete(id)) addon.close(engine, id, true);
      this.#hold();
    };
  }

  close(): void {
    for (const conn of this.#conns.values()) conn.reset();
    this.#home.addon.stop(this.#home.engine);
    this.#listeners.clear();
    this.#attempts.clear();
  }

  #failSoon(code: string, on: Connecting): () => void {
    const soon = setImmediate(() => on.failed(code));
    return () => clearImmediate(soon);
  }

  #hear(count: number): void {
    for (let at = 0; at < count * eventFields; at += eventFields) {
      const kind = this.#events[at];
      if (kind === eventTypes.accept) this.#accepted(at, count);
      else this.#tell(at);
    }
  }

  /** Whom an event concerns may be gone by now. It is told once. */
  #tell(at: number): void {
    const kind = this.#events[at];
    const id = this.#field(at, 1);
    const a = this.#field(at, 2);
    this.#events[at] = told;
    if (kind === eventTypes.acceptFailed) this.#listeners.get(id)?.failed(systemError('accept', a));
    else if (kind === eventTypes.connected) this.#connected(id, a);
    else if (kind === eventTypes.data) this.#conns.get(id)?.arrived(this.#bytes(a, this.#field(at, 3)));
    else if (kind === eventTypes.hup) this.#conns.get(id)?.hungUp(a);
    else if (kind === eventTypes.gone && a === 0) this.#conns.get(id)?.hungUp(this.#field(at, 3));
    else if (kind === eventTypes.writable) this.#conns.get(id)?.writable();
    else if (kind !== told) this.#conns.get(id)?.reset();
  }

  #field(at: number, place: number): number {
    return this.#events[at + place] ?? 0;
  }

  #bytes(from: number, count: number): Buffer {
    return this.#home.arena.subarray(from, from + count);
  }

  /** Its first bytes, if it has spoken, are the next event: they come before anything that it reads when it is handed out. */
  #accepted(at: number, count: number): void {
    const id = this.#field(at, 1);
    const ends = this.#bytes(this.#field(at, 2), this.#field(at, 3));
    const [peer, peerPort, local, localPort] = ends.toString('latin1').split(' ');
    const conn = new NativeConn(this.#home, id, endpoint(local, localPort), endpoint(peer, peerPort));
    this.#conns.set(id, conn);
    this.#hold();
    const next = at + eventFields;
    if (next < count * eventFields && this.#field(next, 1) === id) this.#tell(next);
    const on = this.#listeners.get(this.#field(at, 4));
    if (on === undefined) conn.reset();
    else on.accepted(conn);
  }

  #connected(id: number, errno: number): void {
    const attempt = this.#attempts.get(id);
    if (attempt === undefined) return;
    this.#attempts.delete(id);
    if (errno === 0) {
      const conn = new NativeConn(this.#home, id, { address: '', port: 0 }, attempt.to);
      this.#conns.set(id, conn);
      attempt.on.connected(conn);
    } else {
      this.#home.addon.close(this.#home.engine, id, true);
      this.#hold();
      attempt.on.failed(codeOf(errno));
    }
  }

  #forget(id: number): void {
    this.#conns.delete(id);
    this.#hold();
  }

  /** Listeners and connections keep the process alive, as sockets of Node's would. */
  #hold(): void {
    const isWanted = this.#listeners.size + this.#conns.size + this.#attempts.size > 0;
    if (isWanted === this.#isHeld) return;
    this.#isHeld = isWanted;
    this.#home.addon.hold(this.#home.engine, isWanted);
  }
}

function endpoint(address = '', port = ''): Endpoint {
  return { address: unmapped(address), port: Number(port) };
}

function systemError(syscall: string, errno: number): Error {
  const code = codeOf(errno);
  return Object.assign(new Error(`${syscall} ${code}`), { code, syscall });
}

function listenError(errno: number, address: string, port: number): Error {
  const error = systemError('listen', errno);
  error.message += ` ${address}:${port}`;
  return error;
}
