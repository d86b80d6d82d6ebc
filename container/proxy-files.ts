// The files a run's proxy works with: its policy and its audit, with the owners they need. Starts nothing.
import { constants } from 'node:fs';
import { chmod, chown, mkdir, open, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { RunOptions } from './options.ts';
import { adminSocket, proxyId, type ProxyConfig } from './proxy-part.ts';
import { RunRefused } from './refusal.ts';

/** The part of the proxy's settings that follows from the options, and a way to replace the policy. */
export interface ProxyFiles {
  readonly config: Omit<
    ProxyConfig,
    'listen' | 'principals' | 'serviceListen' | 'serviceAt' | 'transparent' | 'dnsListen' | 'enforcement'
  >;
  /** Replaces the policy in one step; the proxy watches its directory. */
  writePolicy(text: string): Promise<void>;
}

/** Prepares them in `directory`. `uid` is the caller's: only root can hand files to the proxy's own user. */
export async function proxyFiles(directory: string, options: RunOptions, uid: number): Promise<ProxyFiles> {
  const isRoot = uid === 0;
  const policy = join(directory, 'policy', 'policy.json');
  await preparePolicyDirectory(dirname(policy), isRoot);
  await prepareAudit(options.audit, isRoot);
  return {
    config: {
      policy,
      services: options.services.map(({ text }) => text),
      hostPorts: options.hostPorts,
      resolver: options.resolver,
      ...(options.hosts === null ? {} : { hosts: options.hosts }),
      ...parentSettings(options.parent),
      audit: options.audit,
      metrics: options.metrics,
      admin: adminSocket(directory),
      run: options.id,
      hints: options.hints,
      user: isRoot ? `${proxyId}:${proxyId}` : null,
    },
    writePolicy: async (text) => await writePolicy(policy, text, isRoot),
  };
}

function parentSettings(parent: RunOptions['parent']): Pick<ProxyConfig, 'parent' | 'parentResolvesNames'> {
  return parent === null ? {} : { parent: parent.url, parentResolvesNames: parent.resolvesNames };
}

/** Readable by the proxy's group, writable by the runner's user alone. */
async function preparePolicyDirectory(directory: string, isRoot: boolean): Promise<void> {
  await mkdir(directory);
  if (isRoot) await chown(directory, 0, proxyId);
  await chmod(directory, 0o750);
}

async function writePolicy(file: string, text: string, isRoot: boolean): Promise<void> {
  const draft = `${file}.draft`;
  await writeFile(draft, text, { mode: 0o640 });
  if (isRoot) await chown(draft, 0, proxyId);
  await rename(draft, file);
}

/**
 * The proxy writes it as its own user, also when it opens it again. Only a file that is made here changes its owner: a name that leads to
 * a device, another file or a file of somebody's is refused, for it would be given away.
 */
export async function prepareAudit(file: string, isRoot: boolean): Promise<void> {
  const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;
  const flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
  const made = await open(file, flags | O_CREAT | O_EXCL, 0o600).catch(() => undefined);
  const handle =
    made ??
    (await open(file, flags).catch((cause: unknown) => {
      throw unusable(file, 'cannot be written', cause);
    }));
  try {
    const info = await handle.stat();
    if (!info.isFile() || info.nlink !== 1) throw unusable(file, 'is not a plain file with one name');
    if (isRoot && made !== undefined) await handle.chown(proxyId, proxyId);
    else if (isRoot && info.uid !== proxyId)
      throw unusable(file, 'was not made for an audit: it belongs to somebody else');
  } finally {
    await handle.close();
  }
}

function unusable(file: string, why: string, cause?: unknown): RunRefused {
  const help = 'give another --audit FILE, one that is not there yet, in a directory that is';
  return new RunRefused('usage', `audit file \`${file}\` ${why}`, help, { cause });
}
