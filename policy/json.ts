// Strict JSON: what JSON.parse takes, minus duplicate keys. Builds no value itself and knows no policy.

import { pointerOf, type Problem } from './problem.ts';

export type JsonResult = { readonly value: unknown } | { readonly problems: readonly Problem[] };

/** The value of a JSON text, or why not. A key that stands twice in one object is refused (RFC 8259 §4 leaves it open). */
export function parseJson(text: string): JsonResult {
  try {
    const value: unknown = JSON.parse(text);
    const problems = duplicateKeys(text);
    return problems.length > 0 ? { problems } : { value };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { problems: [syntaxProblem(text, error)] };
  }
}

function syntaxProblem(text: string, error: SyntaxError): Problem {
  if (text.trim() === '') {
    return {
      pointer: '',
      message: 'the file is empty',
      help: 'write `{}` for a policy that denies everything',
    };
  }
  const where = /line \d+ column \d+/.exec(error.message)?.[0];
  return {
    pointer: '',
    message: where === undefined ? 'this is not JSON' : `this is not JSON: the error is at ${where}`,
    help: 'check quotes and commas; comments and trailing commas are not JSON',
  };
}

interface Open {
  /** Keys seen so far; undefined for an array. */
  readonly keys: Set<string> | undefined;
  key: string | number;
}

// Walks a text that JSON.parse has accepted, so every string ends and every bracket closes.
function duplicateKeys(text: string): Problem[] {
  const problems: Problem[] = [];
  const open: Open[] = [];
  for (let i = 0; i < text.length; i += 1) {
    const character = text.charAt(i);
    const inner = open.at(-1);
    if (character === '"') {
      const end = endOfString(text, i);
      if (inner?.keys !== undefined && isKey(text, end)) {
        const key = String(JSON.parse(text.slice(i, end)));
        inner.key = key;
        if (inner.keys.has(key)) problems.push(duplicateProblem(open));
        inner.keys.add(key);
      }
      i = end - 1;
    } else if (character === '{') open.push({ keys: new Set(), key: '' });
    else if (character === '[') open.push({ keys: undefined, key: 0 });
    else if (character === '}' || character === ']') open.pop();
    else if (character === ',' && typeof inner?.key === 'number') inner.key += 1;
  }
  return problems;
}

function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text.charAt(i) !== '"') i += text.charAt(i) === '\\' ? 2 : 1;
  return i + 1;
}

// A string is a key if a colon follows it: in valid JSON nothing else can stand between them but white space.
function isKey(text: string, end: number): boolean {
  let i = end;
  while (' \t\r\n'.includes(text.charAt(i)) && i < text.length) i += 1;
  return text.charAt(i) === ':';
}

function duplicateProblem(open: readonly Open[]): Problem {
  return {
    pointer: pointerOf(open.map(({ key }) => key)),
    message: 'this key stands twice in one object',
    help: 'keep one of the two',
  };
}
