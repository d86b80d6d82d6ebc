// The files a run's proxy works with: its policy and its audit, with the owners they need. Starts nothing.
import { chmod, chown, mkdir, open, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { RunOptions } from './options.ts';
import { proxyId, type ProxyConfig } from './proxy-part.ts';
import { RunRefused } from './refusal.ts';

/** The part of the proxy's settings that follows from the options, and a way to replace the policy. */
export interface ProxyFiles {
  readonly config: Omit<ProxyConfig, 'listen' | 'principals' | 'serviceListen' | 'enforcement'>;
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
      services: options.services,
      hostPorts: options.hostPorts,
      resolver: options.resolver,
      ...(options.hosts === null ? {} : { hosts: options.hosts }),
      audit: options.audit,
      metrics: options.metrics,
      admin: join(directory, 'admin.sock'),
      run: options.id,
      user: isRoot ? `${proxyId}:${proxyId}` : null,
    },
    writePolicy: async (text) => await writePolicy(policy, text, isRoot),
  };
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

/** The proxy writes it as its own user, also when it opens it again. */
async function prepareAudit(file: string, isRoot: boolean): Promise<void> {
  const handle = await open(file, 'a', 0o600).catch((error: unknown) => {
    throw new RunRefused(
      'usage',
      `audit file \`${file}\` cannot be written`,
      'give another --audit FILE in a directory that exists',
      { cause: error },
    );
  });
  try {
    if (isRoot) await handle.chown(proxyId, proxyId);
  } finally {
    await handle.close();
  }
}
