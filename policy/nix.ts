// Runs Nix over a policy file and returns the document as JSON text. Judges nothing: load.ts treats the text like any other.
// The evaluation is shut in: no store, no build, no network, no file outside the policy's folder, an end in time.

import { execFile, type ExecFileException } from 'node:child_process';
import { realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

export interface NixOptions {
  /** The evaluator to run; default `nix-instantiate`, looked up in PATH. */
  readonly command?: string;
  /** Default 20,000. */
  readonly timeoutMs?: number;
  /** Most bytes of JSON taken; default 32 MiB, as for a JSON policy. */
  readonly maxBytes?: number;
}

/** Why a `.nix` policy has no document; the message ends in a `help:` line. */
export class NixError extends Error {
  override readonly name = 'NixError';
  readonly code: 'nix_missing' | 'nix_failed' | 'nix_timeout';
  readonly help: string;

  constructor(code: NixError['code'], problem: string, help: string, options?: { readonly cause?: unknown }) {
    super(`${problem}\nhelp: ${help}`, options);
    this.code = code;
    this.help = help;
  }
}

const maxMessageChars = 8000;

// The path arrives as a string argument, so no file name is ever Nix code.
const expression = '{ library, path }: (import (/. + library)).document (import (/. + path))';

/**
 * The document (JSON text) of the policy in `path`: an attrset or a function of policy/lib.nix. Needs no /nix and no
 * rights. Relative imports may reach the file's own folder and below. Throws NixError.
 */
export async function evaluateNix(path: string, options: NixOptions = {}): Promise<string> {
  const file = await resolved(path);
  const library = join(import.meta.dirname, 'lib.nix');
  const folders = [dirname(file), dirname(await realpath(library))];
  const args = [...shutIn, ...folders.flatMap((folder) => ['-I', `allowed=${folder}`])];
  args.push('--argstr', 'library', library, '--argstr', 'path', file, '-E', expression);
  return await run(path, args, options);
}

const shutIn = [
  ['--eval', '--strict', '--json', '--readonly-mode'],
  ['--store', 'dummy://'], // an ordinary user has no /nix, and root needs none
  ['--option', 'restrict-eval', 'true'], // files: only below -I; environment: none
  ['--option', 'allowed-uris', ''], // fetchers: none
  ['--option', 'nix-path', ''], // NIX_PATH may hold URLs, which would be fetched
  ['--option', 'allow-import-from-derivation', 'false'],
].flat();

async function resolved(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (cause) {
    throw new NixError('nix_failed', `cannot read \`${path}\``, 'check the path and its permissions', {
      cause,
    });
  }
}

async function run(path: string, args: readonly string[], options: NixOptions): Promise<string> {
  const { command = 'nix-instantiate', timeoutMs = 20_000, maxBytes = 32 * 1024 * 1024 } = options;
  const limits = { timeout: timeoutMs, maxBuffer: maxBytes, killSignal: 'SIGKILL' } as const;
  return await new Promise((resolve, reject) => {
    execFile(command, args, limits, (error, stdout, stderr) => {
      // INVARIANT: no error means exit 0; on a failure stdout may hold the beginning of a document.
      if (error === null) resolve(stdout);
      else reject(failure(path, error, stderr));
    });
  });
}

function failure(path: string, error: ExecFileException, stderr: string): NixError {
  const cause = { cause: error };
  // EACCES: a directory on PATH that may not be read, and nix in none of the others.
  if (error.code === 'ENOENT' || error.code === 'EACCES') {
    const help = 'install nix (Debian: `apt-get install nix-bin`), or give the policy as JSON';
    return new NixError(
      'nix_missing',
      `\`${path}\` needs nix, and no \`nix-instantiate\` on PATH can be run`,
      help,
      cause,
    );
  }
  if (error.code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') {
    return new NixError(
      'nix_failed',
      `\`${path}\` evaluates to too much text`,
      'make the policy smaller',
      cause,
    );
  }
  if (error.killed === true) {
    return new NixError(
      'nix_timeout',
      `\`${path}\` takes too long to evaluate`,
      'look for an endless recursion',
      cause,
    );
  }
  const message = nixMessage(stderr) || `nix-instantiate ended with ${error.signal ?? String(error.code)}`;
  return new NixError('nix_failed', `\`${path}\` cannot be evaluated: ${message}`, helpFor(message), cause);
}

// From the first `error:` on, without Nix's own indentation and its advice about traces.
function nixMessage(stderr: string): string {
  const plain = stripVTControlCharacters(stderr);
  const from = plain.search(/^error:/mu);
  const lines = (from === -1 ? plain : plain.slice(from + 'error:'.length)).split('\n');
  const kept = lines
    .filter((line) => !line.startsWith("(use '--show-trace'"))
    .map((line) => line.replace(/^ {7}/u, ''));
  return kept.join('\n').trim().slice(0, maxMessageChars);
}

function helpFor(message: string): string {
  const row = helps.find(([words]) => message.includes(words));
  return row === undefined ? 'correct the policy; policy/lib.nix begins with an example' : row[1];
}

const helps: readonly (readonly [words: string, help: string])[] = [
  ['access to URI', 'a policy is evaluated without network; put the text in the file'],
  [
    'forbidden in restricted mode',
    'a policy reads files of its own folder and below; move what it imports there',
  ],
  ['the policy has', 'correct the attributes named above'],
];
