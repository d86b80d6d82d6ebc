// A real `sallyport proxy` with several workers, an echo behind it, and eyes on both. Not for a proxy of one process.
import { readFileSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import { adminClient, type AdminClient } from '../../proxy/index.ts';
import { type AuditLine, assertAuditLines } from './audit.ts';
import { type Origin, startEcho } from './origin.ts';
import { connectHead, dialProxy, readBytes, readReply, type Reply } from './proxy-client.ts';
import { policyFolder, type PolicyFolder, type ProxyProcess, startProxyProcess } from './proxy-process.ts';

/** One row of /tunnels. */
export interface ShownTunnel {
  readonly id: string;
  readonly worker: number;
  readonly state: string;
  readonly up: number;
}

export interface WorkersProxy extends ProxyProcess, PolicyFolder {
  readonly echo: Origin;
  readonly client: AdminClient;
  /** A tunnel to the echo through the service `db`, with one byte each way done; undefined when it was refused. */
  dial(): Promise<Socket | undefined>;
  ask(authority: string): Promise<Reply>;
  tunnels(): Promise<readonly ShownTunnel[]>;
  /** The value of one line of /metrics. */
  metric(line: string): Promise<number>;
  audit(): readonly AuditLine[];
  /** Process ids by number of worker, now. */
  pids(): readonly number[];
}

/** The service leads to loopback because it is the run's own. */
export async function startWorkersProxy(
  t: Test,
  args: readonly string[] = [],
  policy = '{}',
  dns?: readonly string[],
  mode = 0o700,
): Promise<WorkersProxy> {
  const echo = await startEcho(t);
  const folder = await policyFolder(t, policy);
  await chmod(folder.folder, mode);
  const [audit, admin] = [join(folder.folder, 'audit.jsonl'), join(folder.folder, 'admin.sock')];
  const service = ['--service', `db=127.0.0.1:${echo.port}`, '--service-listen', '127.0.0.2'];
  const own = ['--policy', folder.policy, '--hosts', folder.hosts, '--audit', audit, '--admin', admin];
  const listen = ['--listen', '127.0.0.1:0', '--metrics', '127.0.0.1:0'];
  const all = [...own, ...listen, ...service, '--workers', '2', ...args];
  const proxy = await startProxyProcess(t, all, dns);
  // So that the next ones to be ready are those that replace others.
  await proxy.logged('worker ready');
  await proxy.logged('worker ready');
  const client = await adminClient(admin);
  t.teardown(async () => await client.close());
  return {
    ...proxy,
    ...folder,
    echo,
    client,
    async dial() {
      const socket = connect({ host: '127.0.0.2', port: echo.port, noDelay: true });
      socket.on('error', () => {});
      t.teardown(() => void socket.destroy());
      return (await isOpen(socket)) ? socket : undefined;
    },
    async ask(authority) {
      const socket = await dialProxy(proxy.port);
      socket.write(connectHead(authority));
      return await readReply(socket);
    },
    async tunnels() {
      const { body } = await client.get('/tunnels');
      return (body as { tunnels: readonly ShownTunnel[] }).tunnels;
    },
    async metric(line) {
      const page = await (await fetch(`http://127.0.0.1:${proxy.metricsPort}/metrics`)).text();
      const found = page.split('\n').find((one) => one.startsWith(`${line} `));
      return Number(found?.slice(line.length) ?? Number.NaN);
    },
    audit: () => assertAuditLines(t, readFileSync(audit, 'utf8')),
    pids: () => childrenOf(proxy.child.pid ?? 0),
  };
}

async function isOpen(socket: Socket): Promise<boolean> {
  // A refusal may come before the connection is known to be there.
  await new Promise<void>((resolve) => {
    socket.once('connect', () => resolve()).once('close', () => resolve());
  });
  return !socket.destroyed && (await echoes(socket));
}

/** Whether bytes still go there and back. */
export async function echoes(socket: Socket): Promise<boolean> {
  if (socket.destroyed) return false;
  socket.write('x');
  return (await readBytes(socket, 1)).length === 1;
}

/** Process ids of the children of `pid`; none when it is gone. */
export function childrenOf(pid: number): readonly number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return children.split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** False for one that is gone, or that nobody has buried yet. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\tZ/mu.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

export const nextTurn = async (): Promise<void> => await new Promise((turn) => setImmediate(turn));

/** Never to 0, which would be this test and all around it. */
export function signal(pid: number | undefined, name: NodeJS.Signals): void {
  if (pid === undefined || pid <= 0) throw new Error('there is no such worker');
  process.kill(pid, name);
}

/** Tunnels until each of `workers` has at least `each`; by worker. */
export async function spread(
  proxy: WorkersProxy,
  each: number,
  workers = 2,
): Promise<ReadonlyMap<number, Socket[]>> {
  const byPeer = new Map<number, Socket>();
  for (;;) {
    const socket = await proxy.dial();
    if (socket !== undefined) byPeer.set(socket.localPort ?? 0, socket);
    const byWorker = Map.groupBy(await proxy.tunnels(), ({ worker }) => worker);
    const isDone = [...Array(workers).keys()].every((worker) => (byWorker.get(worker)?.length ?? 0) >= each);
    if (isDone) break;
  }
  // A worker is known by what its tunnels have carried: the audit joins peers and tunnels.
  const peers = new Map(proxy.audit().map(({ tunnel, peer }) => [tunnel, Number(peer.split(':')[1])]));
  const shown = await proxy.tunnels();
  const rows = shown.map(({ id, worker }) => ({ worker, socket: byPeer.get(peers.get(id) ?? 0) }));
  return new Map(
    [...Map.groupBy(rows, ({ worker }) => worker)].map(([worker, all]) => [
      worker,
      all.map(({ socket }) => socket).filter((socket) => socket !== undefined),
    ]),
  );
}

export function closesOf(proxy: WorkersProxy, cause?: string) {
  return proxy
    .audit()
    .filter((line) => line.event === 'close')
    .filter((line) => cause === undefined || line.cause === cause);
}
