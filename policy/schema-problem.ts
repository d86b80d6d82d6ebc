// Puts one finding of the schema validator into our words: where, what is wrong, what to write. Validates nothing.

import { nearest } from './edit-distance.ts';
import { printable } from './printable.ts';
import { pointerOf, type Problem } from './problem.ts';

/** The part of ajv's ErrorObject (with `verbose`) that is read here. */
export interface SchemaFinding {
  readonly instancePath: string;
  readonly keyword: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly data?: unknown;
  readonly parentSchema?: unknown;
}

type Words = (finding: SchemaFinding) => {
  readonly key?: string;
  readonly message: string;
  readonly help: string;
};

/** The problem behind one schema finding. */
export function schemaProblem(finding: SchemaFinding): Problem {
  const words = table.get(finding.keyword) ?? otherwise;
  const { key, message, help } = words(finding);
  return { pointer: finding.instancePath + (key === undefined ? '' : pointerOf([key])), message, help };
}

const otherwise: Words = ({ keyword, data }) => ({
  message: `\`${shown(data)}\` breaks the schema (${keyword})`,
  help: 'see policy/schema.json',
});

const table: ReadonlyMap<string, Words> = new Map<string, Words>([
  ['additionalProperties', unknownKey],
  ['required', ({ params }) => missing(text(params['missingProperty']))],
  ['type', wrongType],
  [
    'const',
    ({ data, params }) => ({
      message: `\`${shown(data)}\` is not known`,
      help: `write ${JSON.stringify(params['allowedValue'])}`,
    }),
  ],
  [
    'enum',
    ({ data, params }) => ({
      message: `\`${shown(data)}\` is not known`,
      help: `write one of ${list(params['allowedValues'])}`,
    }),
  ],
  ['minimum', outOfRange],
  ['maximum', outOfRange],
  [
    'minItems',
    () => ({
      message: 'the list is empty',
      help: 'leave the key out for the default; an empty list could be read as everything or as nothing',
    }),
  ],
  ['minProperties', () => ({ message: 'the object is empty', help: 'leave the key out' })],
  ['minLength', () => ({ message: 'the text is empty', help: 'write something, or remove the entry' })],
  [
    'maxLength',
    ({ params }) => ({
      message: 'the text is too long',
      help: `use at most ${text(params['limit'])} characters`,
    }),
  ],
  ['pattern', wrongPattern],
]);

function unknownKey({ params, parentSchema }: SchemaFinding): ReturnType<Words> {
  const key = text(params['additionalProperty']);
  const known = Object.keys(record(record(parentSchema)['properties']));
  const near = nearest(key, known);
  const suggestion = near === undefined ? '' : `did you mean "${near}"? `;
  return {
    key,
    message: `\`${printable(key)}\` is not a key here`,
    help: `${suggestion}known keys: ${known.join(', ')}`,
  };
}

function missing(key: string): ReturnType<Words> {
  const why = key === 'reason' ? ': every rule says why it is there' : '';
  return { message: `\`${key}\` is missing`, help: `add "${key}"${why}` };
}

const listHelp = (entry: string): string =>
  `write a list, as in [${entry}]; the short form with names as keys is for a .nix file`;
const ruleHelp = listHelp('{"host": "api.example.com", "reason": "why it is needed"}');

const typeHelp: ReadonlyMap<string, string> = new Map([
  ['', 'a policy is one JSON object; `{}` denies everything'],
  ['/allow', ruleHelp],
  ['/deny', ruleHelp],
  [
    '/services',
    listHelp('{"name": "db", "host": "db.example.com", "port": 5432, "reason": "why it is needed"}'),
  ],
  ['/tests', listHelp('{"target": "api.example.com:443", "expect": "allow"}')],
]);

function wrongType({ data, params, instancePath }: SchemaFinding): ReturnType<Words> {
  const wanted = text(params['type']);
  const help = typeHelp.get(instancePath) ?? `write ${article(wanted)}`;
  return { message: `\`${shown(data)}\` is not ${article(wanted)}`, help };
}

function outOfRange({ data, instancePath }: SchemaFinding): ReturnType<Words> {
  if (!/\/port(s\/\d+)?$/.test(instancePath))
    return { message: `\`${shown(data)}\` is out of range`, help: 'give a whole number from 1 up' };
  return { message: `\`${shown(data)}\` is not a port`, help: 'give 1 to 65535, or drop "ports" for 443' };
}

function wrongPattern({ data, parentSchema, instancePath }: SchemaFinding): ReturnType<Words> {
  if (instancePath.endsWith('/reviewBy'))
    return { message: `\`${shown(data)}\` is not a date`, help: 'write it as YYYY-MM-DD' };
  if (instancePath.endsWith('/id'))
    return { message: `\`${shown(data)}\` cannot be an id`, help: 'use printable ASCII without spaces' };
  const about = text(record(parentSchema)['description']);
  return {
    message: `\`${shown(data)}\` is not a line of text`,
    help: about === '' ? 'write one line of text' : 'write one line with something in it',
  };
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

function list(values: unknown): string {
  return Array.isArray(values) ? values.map((value) => JSON.stringify(value)).join(', ') : '';
}

function shown(data: unknown): string {
  return printable(JSON.stringify(data) ?? 'undefined');
}

function article(type: string): string {
  if (type === 'array') return 'a list';
  return /^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`;
}
