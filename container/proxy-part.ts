// Starts, asks and ends the proxy of a run: the one file of this folder that knows the proxy. It carries no bytes and judges nothing.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { adminClient, compileForRun, type AdminClient, type CompiledPolicy } from '../proxy/index.ts';
import { lastError, readable } from './proxy-words.ts';
import { RunRefused } from './refusal.ts';
import type { Resource } from './resource.ts';

/** uid and gid of the proxy once its sockets are open: `nobody`. */
export const proxyId = 65534;
const readyTimeoutMs = 15_000;
const drainTimeoutMs = 1500;

/** What the proxy of a run is told; the keys are those of its settings file. */
export interface ProxyConfig {
  readonly policy: string;
  readonly listen: readonly string[];
  readonly principals: readonly { readonly name: string; readonly source: string }[];
  readonly services: readonly string[];
  readonly hostPorts: readonly number[];
  readonly serviceListen: string;
  readonly serviceAt: readonly { readonly name: string; readonly address: string }[];
  readonly transparent: readonly string[];
  readonly dnsListen: readonly string[];
  readonly resolver: readonly string[];
  readonly hosts?: string;
  /** A secret: it may hold a password. */
  readonly parent?: string;
  readonly parentResolvesNames?: boolean;
  readonly audit: string;
  readonly metrics: string | null;
  readonly admin: string;
  readonly run: string;
  readonly hints: boolean;
  readonly user: string | null;
  readonly enforcement: 'fence' | 'env';
}

export type { CompiledPolicy } from '../proxy/index.ts';

/** A proxy that is listening. */
export interface ProxyPart extends Resource {
  /** Resolves with what happened when the proxy ends without being asked to. */
  readonly died: Promise<string>;
  readonly admin: AdminClient;
}

/** Reads and compiles a .json or .nix policy. Throws RunRefused (usage) that lists what is wrong. */
export async function compilePolicy(path: string): Promise<CompiledPolicy> {
  try {
    return await compileForRun(path);
  } catch (error) {
    const help =
      error instanceof Error && 'help' in error
        ? String(error.help)
        : 'check it with: policy validate --policy FILE';
    throw new RunRefused('usage', `policy \`${path}\` cannot be used: ${messageOf(error)}`, help, {
      cause: error,
    });
  }
}

/**
 * Starts the proxy in this network namespace and waits until it listens. Descriptor 3 is its lifeline: when this process
 * dies, however it dies, the proxy reads the end of it and ends too. Throws RunRefused (boundary) when it does not come up.
 */
export async function startProxyPart(directory: string, config: ProxyConfig): Promise<ProxyPart> {
  const file = join(directory, 'proxy.json');
  await writeFile(file, `${JSON.stringify({ ...config, readyFd: 3, drainTimeoutMs }, undefined, 2)}\n`, {
    mode: 0o600,
  });
  const child = launch(file);
  const said = tail(child);
  await untilReady(child, said);
  // It may hold a password, and nobody reads it again.
  await rm(file);
  const admin = await adminClient(config.admin);
  let isAsked = false;
  return {
    name: 'proxy',
    admin,
    died: new Promise((resolve) => {
      void ended(child).then((how) => isAsked || resolve(ending(how, said)));
    }),
    async release() {
      isAsked = true;
      await admin.close();
      await stop(child);
    },
  };
}

/** Asks the proxy of a live run whose directory this is. The caller closes it. */
export async function adminOf(directory: string): Promise<AdminClient> {
  return await adminClient(adminSocket(directory));
}

/** Where the proxy of a run answers its runner. */
export function adminSocket(directory: string): string {
  return join(directory, 'admin.sock');
}

/** A cleared environment: SALLYPORT_* variables of the caller would win over the settings file. Own session: ctrl-c is the runner's. */
function launch(file: string): ChildProcess {
  const main = join(import.meta.dirname, 'main.ts');
  const argv = ['--no-new-privs', process.execPath, main, 'proxy', '--config', file];
  return spawn('setpriv', argv, {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    detached: true,
    env: { PATH: '/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin' },
  });
}

async function untilReady(child: ChildProcess, said: Tail): Promise<void> {
  const lifeline = child.stdio[3];
  if (!(lifeline !== undefined && lifeline !== null && 'read' in lifeline))
    throw new Error('descriptor 3 of the proxy is not a socket');
  lifeline.on('error', () => undefined);
  const cancel = new AbortController();
  const failed = [
    ended(child),
    delay(readyTimeoutMs, `no answer in ${readyTimeoutMs / 1000} s`, { signal: cancel.signal }).catch(
      () => '',
    ),
  ];
  const problem = await Promise.race([once(lifeline, 'data').then(() => undefined), ...failed]);
  cancel.abort();
  lifeline.resume();
  if (problem === undefined) return;
  child.kill('SIGKILL');
  // Status 2 is bad use: what the proxy was told came from the caller's flags.
  const kind = child.exitCode === 2 ? 'usage' : 'boundary';
  const help = "the lines above are the proxy's own; `sallyport proxy --help` explains its settings";
  const words = readable(said.text());
  const lines = words === '' ? '' : `\n${words}`;
  throw new RunRefused(kind, `the proxy did not start: ${problem}${lines}`, help);
}

interface Tail {
  /** The last of what was said on stderr. */
  text(): string;
}

function ending(how: string, said: Tail): string {
  const error = lastError(said.text());
  return error === undefined ? how : `${how}; ${error}`;
}

const tailBytes = 4096;

function tail(child: ChildProcess): Tail {
  let kept = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    kept += chunk;
    if (kept.length <= tailBytes) return;
    // Whole lines only: the end of one may read like an error that it is not.
    kept = kept.slice(-tailBytes);
    kept = kept.slice(kept.indexOf('\n') + 1);
  });
  child.stderr?.on('error', () => undefined);
  return { text: () => kept };
}

async function ended(child: ChildProcess): Promise<string> {
  return await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) =>
      resolve(signal === null ? `it ended with status ${code ?? 0}` : `it was ended by ${signal}`),
    );
  });
}

/** TERM lets open tunnels write their close lines; then the lifeline goes, then KILL. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const done = once(child, 'close').then(() => true);
  child.kill('SIGTERM');
  if (await Promise.race([done, delay(drainTimeoutMs + 500, false, { ref: false })])) return;
  child.kill('SIGKILL');
  await done;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
