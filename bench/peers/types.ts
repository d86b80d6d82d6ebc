// What a peer is: something that carries tunnels, by which way clients go through it, and how it is started. Measures nothing.
import type { Way } from '../load/index.ts';
import type { World } from '../world.ts';

export interface Peer {
  /** As --only takes it. */
  readonly name: string;
  readonly title: string;
  /** Why it is not here, or undefined. */
  absent(): string | undefined;
  version(): string;
  start(world: World, options: PeerOptions): Promise<RunningPeer>;
}

export interface PeerOptions {
  /** Where it listens on 127.0.0.1. */
  readonly port: number;
  /** A folder of its own. */
  readonly folder: string;
}

export interface RunningPeer {
  readonly way: Way;
  /** The process whose tree is measured; undefined when there is none between client and upstream. */
  readonly pid: number | undefined;
  readonly stop: () => Promise<void>;
}
