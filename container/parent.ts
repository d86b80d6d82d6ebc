// Which proxy the run's own goes out through, and with whose name. The password comes from a file or the environment, never from a command line, which
// every user of the machine can read; it is not repeated in anything that is said.
import { readFileSync, statSync } from 'node:fs';
import { RunRefused } from './refusal.ts';

/** What was said of a parent. */
export interface ParentFlags {
  readonly parent?: string;
  readonly parentCredentials?: string;
  readonly parentResolvesNames?: boolean;
}

/** A parent as the proxy's settings have it. */
export interface ParentOptions {
  /** `http://[USER:PASS@]HOST:PORT`, percent-encoded. */
  readonly url: string;
  /** It is told names, and looks them up again. */
  readonly resolvesNames: boolean;
}

const environmentName = 'SALLYPORT_PARENT';
const maxFileBytes = 4096;
const shape = /^http:\/\/(?:[^@/]*@)?[^@/]+:[0-9]{1,5}\/?$/u;

/** From `--parent`, else from SALLYPORT_PARENT, which may hold a password; null without either. Throws RunRefused (usage). */
export function readParent(
  flags: ParentFlags,
  environment: Readonly<Record<string, string | undefined>>,
): ParentOptions | null {
  const { parent, parentCredentials: file, parentResolvesNames: resolvesNames = false } = flags;
  const fromEnvironment = environment[environmentName] ?? '';
  if (parent?.includes('@') === true)
    throw usage('--parent holds a password that others can read', secretHelp);
  const url = parent ?? fromEnvironment;
  if (url === '' && (file !== undefined || resolvesNames))
    throw usage('there is no parent proxy to go with that', `give --parent, or set ${environmentName}`);
  if (url === '') return null;
  if (!shape.test(url)) throw usage('the parent proxy is not one http URL with a host and a port', urlHelp);
  if (file === undefined) return { url, resolvesNames };
  if (url.includes('@')) throw usage('the parent proxy is given two passwords', secretHelp);
  return {
    url: url.replace('http://', `http://${encodeURIComponent(readCredentials(file))}@`),
    resolvesNames,
  };
}

const urlHelp = 'give http://HOST:PORT';
const secretHelp = `put USER:PASSWORD in a file and give --parent-credentials FILE, or set ${environmentName} to the whole URL`;

/** One line, `USER:PASSWORD`, as it is: nothing in it is decoded. */
function readCredentials(file: string): string {
  const line = readLine(file);
  if (/^[^\p{Cc}:]+:\P{Cc}*$/u.test(line)) return line;
  throw usage(
    `--parent-credentials \`${file}\` is not one line USER:PASSWORD`,
    'write it as it is, not encoded',
  );
}

function readLine(file: string): string {
  try {
    if (statSync(file).size > maxFileBytes) throw new Error(`it is larger than ${maxFileBytes} bytes`);
    return readFileSync(file, 'utf8').replace(/\r?\n$/u, '');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw usage(`--parent-credentials \`${file}\` cannot be read: ${why}`, secretHelp);
  }
}

function usage(message: string, help: string): RunRefused {
  return new RunRefused('usage', message, help);
}
