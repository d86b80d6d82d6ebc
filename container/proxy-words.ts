// Makes lines for a person out of what the proxy said on stderr: its log is JSON, one object a line. Reads text only.

const errorLevel = 50;

/** Everything but the log's quieter lines; empty when nothing is left. */
export function readable(said: string): string {
  return said
    .split('\n')
    .flatMap((line) => {
      if (!line.includes('"level":')) return [line];
      const error = loggedError(line);
      return error === undefined ? [] : [error];
    })
    .join('\n')
    .trim();
}

/** The last error, as one line; undefined when there was none. */
export function lastError(said: string): string | undefined {
  return readable(said)
    .split('\n')
    .findLast((line) => /^\S*(error|bug)\b/i.test(line));
}

/** An error of the log with its cause; undefined for a quieter line, and for one of which only the end was kept. */
function loggedError(line: string): string | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    if (Number(field(entry, 'level')) < errorLevel) return undefined;
    const [message, cause] = [field(entry, 'msg'), field(field(entry, 'err'), 'message')];
    return `error: ${[message, cause].filter((text) => typeof text === 'string').join(': ')}`;
  } catch {
    return undefined;
  }
}

function field(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([name]) => name === key)?.[1];
}
