// Where settings come from and which source wins: flag, environment, file, default. Reads the one file; judges no combination.
import { readFileSync } from 'node:fs';
import { parseJson, printable } from '../policy/index.ts';
import { BadValue } from './config-readers.ts';
import { flagOf, type Setting, settingKeys, settingTable, type Told } from './config-table.ts';

/** What was given, unread. */
export interface Given {
  /** Texts by setting key; a key that is missing was not given. */
  readonly flags: ReadonlyMap<string, readonly string[]>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `--config`; null is the environment's SALLYPORT_CONFIG or no file. */
  readonly file: string | null;
}

export interface ConfigProblem {
  readonly message: string;
  readonly help: string;
}

/** Settings that cannot be used; all problems at once. */
export class ConfigError extends Error {
  readonly code = 'config_invalid';
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(({ message, help }) => `${message}\nhelp: ${help}`).join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** Each setting with its value and where it came from. */
export type Origins = ReadonlyMap<keyof Told, string>;

interface Source {
  readonly origin: string;
  readonly read: () => unknown;
}

const maxFileBytes = 1_048_576;
const fileEnv = 'SALLYPORT_CONFIG';

/** Reads every setting from its strongest source. Throws ConfigError. */
export function readTold(given: Given): { told: Told; origins: Origins } {
  const problems: ConfigProblem[] = [];
  const file = attempt(problems, () => openFile(given)) ?? { name: '', values: {} };
  const values: Record<string, unknown> = {};
  const origins = new Map<keyof Told, string>();
  for (const key of settingKeys) {
    const { origin, read } = strongest(key, settingTable[key], given, file);
    origins.set(key, origin);
    attempt(problems, () => (values[key] = read()), origin);
  }
  if (problems.length > 0 || !isTold(values)) throw new ConfigError(problems);
  return { told: values, origins };
}

// INVARIANT: each value was made by the reader of its own row, so having all of them is enough.
function isTold(values: object): values is Told {
  return settingKeys.every((key) => Object.hasOwn(values, key));
}

function strongest<Key extends keyof Told>(
  key: Key,
  row: Setting<Told[Key]>,
  given: Given,
  file: ConfigFile,
): Source {
  const flags = given.flags.get(key);
  if (flags !== undefined) return { origin: `flag ${flagOf(key)}`, read: () => row.read.text(flags) };
  const env = given.env[row.env];
  if (env !== undefined) {
    return {
      origin: `environment ${row.env}`,
      read: () => row.read.text(row.read.isList ? env.split(',') : [env]),
    };
  }
  if (Object.hasOwn(file.values, key)) {
    return { origin: `file ${file.name} "${key}"`, read: () => row.read.json(file.values[key]) };
  }
  return { origin: 'default', read: () => row.fallback };
}

interface ConfigFile {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

function openFile(given: Given): ConfigFile {
  const name = given.file ?? given.env[fileEnv];
  if (name === undefined) return { name: '', values: {} };
  const values = parseObject(name, readText(name));
  const unknown = Object.keys(values).filter((key) => !Object.hasOwn(settingTable, key));
  if (unknown.length > 0) {
    const known = `\`sallyport config show\` lists the settings; the policy has its own file`;
    throw new BadValue(`file \`${name}\`: \`${unknown.join('`, `')}\` is not a setting`, known);
  }
  return { name, values };
}

function readText(name: string): string {
  try {
    const bytes = readFileSync(name);
    if (bytes.length > maxFileBytes) throw new Error('it is larger than 1 MiB');
    return bytes.toString();
  } catch (error) {
    throw new BadValue(
      `file \`${name}\` cannot be read: ${messageOf(error)}`,
      'give --config a JSON file of settings',
    );
  }
}

function parseObject(name: string, content: string): Readonly<Record<string, unknown>> {
  const read = parseJson(content);
  const help = 'give one object in curly brackets, each key once';
  if ('problems' in read) {
    const found = read.problems.map(({ pointer, message }) => `${printable(pointer)} ${message}`.trim());
    throw new BadValue(`file \`${name}\` is not JSON settings: ${found.join(', ')}`, help);
  }
  const { value } = read;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new BadValue(`file \`${name}\` is not JSON settings: it is not an object`, help);
}

/** Runs `work`; what it cannot use becomes a problem. */
function attempt<Result>(problems: ConfigProblem[], work: () => Result, origin?: string): Result | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    const message = origin === undefined ? error.message : `${origin}: ${error.message}`;
    problems.push({ message, help: error.help });
    return undefined;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
