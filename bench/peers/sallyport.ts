// Sallyport itself, with everything on: policy, address guard, server-name gate, audit to a file, metrics. One peer for each relay and number of workers.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startServer } from '../processes.ts';
import type { World } from '../world.ts';
import type { Peer, PeerOptions } from './types.ts';

const root = join(import.meta.dirname, '../..');
/** As users start it. */
export const sallyport = join(root, 'container/bin.sh');
const addon = join(root, 'proxy/relay/build/relay.node');

interface Shape {
  readonly name: string;
  readonly relay: 'splice' | 'javascript';
  /** Undefined leaves the flag out. */
  readonly workers?: number;
}

const shapes: readonly Shape[] = [
  { name: 'sallyport-splice', relay: 'splice' },
  { name: 'sallyport-javascript', relay: 'javascript' },
  { name: 'sallyport-workers-1', relay: 'splice', workers: 1 },
  { name: 'sallyport-workers-2', relay: 'splice', workers: 2 },
];

export const sallyports: readonly Peer[] = shapes.map((shape) => ({
  name: shape.name,
  title: titleOf(shape),
  absent: () => absenceOf(shape),
  version: versionOf,
  async start(world, options) {
    const { args, env } = sallyportCommand(world, options, policyAllowing(world.allowed));
    const more = [
      '--relay',
      shape.relay,
      ...(shape.workers === undefined ? [] : ['--workers', String(shape.workers)]),
    ];
    const { port, folder } = options;
    const { pid, stop } = await startServer(sallyport, [...args, ...more], {
      log: join(folder, 'log'),
      port,
      env,
    });
    return { way: { to: `127.0.0.1:${port}`, host: world.host, connects: true }, pid, stop };
  },
}));

/** How to start a proxy that no limit of its own holds back; `policy` is the text of its policy file. */
export function sallyportCommand(
  { hosts }: World,
  { port, folder }: PeerOptions,
  policy: string,
): {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly policy: string;
} {
  const path = join(folder, 'policy.json');
  writeFileSync(path, policy);
  const many = '1000000';
  const settings = {
    policy: path,
    listen: `127.0.0.1:${port}`,
    hosts,
    audit: join(folder, 'audit.jsonl'),
    metrics: `127.0.0.1:${port + 1}`,
    'max-tunnels': many,
    'max-tunnels-per-principal': many,
    'connections-per-second': many,
    'connection-burst': many,
  };
  const flags = Object.entries(settings).flatMap(([flag, value]) => [`--${flag}`, value]);
  return { args: ['proxy', ...flags], env: { NODE_ENV: 'production' }, policy: path };
}

/** The text of a policy that allows these hosts. */
export function policyAllowing(hosts: readonly string[]): string {
  return JSON.stringify({ allow: hosts.map((host) => ({ host, reason: 'bench' })) });
}

function titleOf({ relay, workers }: Shape): string {
  return `Sallyport, ${relay}${workers === undefined ? '' : `, ${workers} worker${workers === 1 ? '' : 's'}`}`;
}

function absenceOf({ relay, workers }: Shape): string | undefined {
  if (relay === 'splice' && !existsSync(addon)) return 'the native relay is not built (sh proxy/compile.sh)';
  return workers === undefined || helpText().includes('--workers')
    ? undefined
    : 'this build has no --workers';
}

function helpText(): string {
  return spawnSync(sallyport, ['proxy', '--help'], { encoding: 'utf8' }).stdout;
}

function versionOf(): string {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return `${version}, Node ${process.versions.node}`;
}
