// From a file or a text to a compiled policy: strict JSON, schema, meaning, all problems at once. The only reader of files here.

import { open, type FileHandle } from 'node:fs/promises';
import { Ajv, type ValidateFunction } from 'ajv';
import { compilePolicy, type Policy } from './compile.ts';
import {
  canonicalDocument,
  type AuthoredDocument,
  type AuthoredRule,
  type AuthoredService,
  type TestDocument,
} from './document.ts';
import { parseJson } from './json.ts';
import { PolicyError, type Problem } from './problem.ts';
import { schemaProblem } from './schema-problem.ts';
import schema from './schema.json' with { type: 'json' };
import { semanticProblems, type Entries, type Entry } from './semantics.ts';

/** 100,000 rules with their reasons are 23 MB in the canonical text; more than this is no policy. */
const maxPolicyBytes = 32 * 2 ** 20;

const ajv = new Ajv({ allErrors: true, strict: true, verbose: true }).addSchema(schema);
const isDocument = ajv.compile<AuthoredDocument>({ $ref: 'sallyport-policy' });
const isAllow = ajv.compile<AuthoredRule>({ $ref: 'sallyport-policy#/definitions/allow' });
const isDeny = ajv.compile<AuthoredRule>({ $ref: 'sallyport-policy#/definitions/deny' });
const isService = ajv.compile<AuthoredService>({ $ref: 'sallyport-policy#/definitions/service' });
const isTest = ajv.compile<TestDocument>({ $ref: 'sallyport-policy#/definitions/test' });

/** Reads, checks and compiles a policy file; runs none of its tests. Throws PolicyError, or Error with a help line. */
export async function loadPolicy(path: string): Promise<Policy> {
  return parsePolicy(decodePolicy(path, await readPolicyBytes(path)));
}

/** The JSON text of a policy file in UTF-8, not yet looked at; a `.nix` file is evaluated. Throws Error with a help line. */
export async function readPolicyBytes(path: string): Promise<Uint8Array> {
  if (!path.endsWith('.nix')) return await readBounded(path);
  const { evaluateNix } = await import('./nix.ts');
  return Buffer.from(await evaluateNix(path));
}

async function readBounded(path: string): Promise<Uint8Array> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    return await readToEnd(file, Math.min(size, maxPolicyBytes) + 1);
  } catch (cause) {
    throw new Error(unreadable(path, cause), { cause });
  }
}

/** Most bytes of one read. */
const chunkBytes = 2 ** 20;

// Into one buffer that is its own, so that it may move to another thread. A pipe has no size: then the buffer grows.
async function readToEnd(file: FileHandle, expected: number): Promise<Uint8Array> {
  let bytes: Buffer = Buffer.allocUnsafeSlow(expected);
  for (let length = 0; ;) {
    if (length === bytes.length) bytes = grown(bytes);
    const { bytesRead } = await file.read(bytes, length, Math.min(bytes.length - length, chunkBytes));
    if (bytesRead === 0) return bytes.subarray(0, length);
    length += bytesRead;
    if (length > maxPolicyBytes) throw new RangeError(`larger than ${maxPolicyBytes} bytes`);
  }
}

function grown(bytes: Buffer): Buffer {
  const larger = Buffer.allocUnsafeSlow(Math.max(64 * 1024, bytes.length * 2));
  larger.set(bytes);
  return larger;
}

/** The text of what was read from `path`. Throws Error with a help line when it is not UTF-8. */
export function decodePolicy(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new Error(unreadable(path, cause), { cause });
  }
}

function unreadable(path: string, cause: unknown): string {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  if (code === 'ENOENT') {
    return `policy \`${path}\` does not exist\nhelp: give an existing file; \`{}\` in it is a policy that denies everything`;
  }
  const why = cause instanceof Error ? cause.message : 'unknown error';
  return `policy \`${path}\` cannot be read: ${why}\nhelp: give a readable UTF-8 file`;
}

/** Values of 32 MiB of real rules are half as many. What is made of nothing but brackets would take all memory there is. */
const maxValues = 2_000_000;

const tooMany: Problem = {
  pointer: '',
  message: `the policy has more than ${maxValues} values`,
  help: 'make it smaller',
};

// No value without a comma, a bracket or a brace before it.
function hasTooMany(text: string): boolean {
  let count = 0;
  for (let i = 0; i < text.length && count <= maxValues; i += 1) {
    const code = text.charCodeAt(i);
    if (code === 0x2c || code === 0x5b || code === 0x7b) count += 1;
  }
  return count > maxValues;
}

/** Checks and compiles the JSON text of a policy. Throws PolicyError with every problem. */
export function parsePolicy(text: string): Policy {
  if (hasTooMany(text)) throw new PolicyError([tooMany]);
  const json = parseJson(text);
  if ('problems' in json) throw new PolicyError(json.problems);
  const { value } = json;
  const isShaped = isDocument(value);
  const shape = isShaped ? [] : (isDocument.errors ?? []).map(schemaProblem);
  const problems = [...shape, ...semanticProblems(entriesOf(value))];
  if (!isShaped || problems.length > 0) throw new PolicyError(problems);
  return compilePolicy(canonicalDocument(value));
}

// Entries that the schema accepts are checked for meaning even when others are not: all problems at once.
function entriesOf(document: unknown): Entries {
  return {
    allow: accepted(document, 'allow', isAllow),
    deny: accepted(document, 'deny', isDeny),
    services: accepted(document, 'services', isService),
    tests: accepted(document, 'tests', isTest),
  };
}

function accepted<T>(document: unknown, list: keyof Entries, accepts: ValidateFunction<T>): Entry<T>[] {
  if (typeof document !== 'object' || document === null || !Object.hasOwn(document, list)) return [];
  const items: unknown = Reflect.get(document, list);
  if (!Array.isArray(items)) return [];
  return items.flatMap((value: unknown, index) => (accepts(value) ? [{ index, value }] : []));
}
