// Reads audit text as a stranger would: line by line, each against the published schema. Knows nothing of how lines are made.
import { Ajv } from 'ajv';
import type { Test } from 'tap';
import schema from '../../proxy/observe/audit.schema.json' with { type: 'json' };
import type { CloseEvent, DecisionEvent } from '../../proxy/observe/index.ts';

/** A line of the audit: `v` is the version of its shape. */
export type AuditLine = (DecisionEvent | CloseEvent) & { readonly v: 1 };

const isAuditLine = new Ajv({ allErrors: true, strict: true }).compile<AuditLine>(schema);

/** What is wrong with one line's text, or undefined. */
export function auditLineProblem(line: string): string | undefined {
  const value = parse(line);
  if (value === undefined) return `not JSON: ${line}`;
  if (isAuditLine(value)) return undefined;
  const problems = (isAuditLine.errors ?? []).map(
    ({ instancePath, message }) => `${instancePath} ${message}`,
  );
  return `${problems.join(', ')}: ${line}`;
}

/**
 * The events in `text`, each checked against the schema; text must end in a line break. Fails `t` once, with all that is wrong.
 * Also holds that a tunnel has at most one close event, and nothing after it.
 */
export function assertAuditLines(t: Test, text: string): readonly AuditLine[] {
  const lines = text.split('\n');
  const last = lines.pop();
  const problems = lines.map(auditLineProblem).filter((problem) => problem !== undefined);
  const events = lines.map(parse).filter((value) => isAuditLine(value));
  t.same([...problems, ...orderProblems(events)], [], 'every audit line fits the schema');
  t.equal(last, '', 'the audit ends in a whole line');
  return events;
}

function orderProblems(events: readonly AuditLine[]): readonly string[] {
  const closed = new Set<string>();
  return events.flatMap(({ tunnel, event }) => {
    const isLate = closed.has(tunnel);
    if (event === 'close') closed.add(tunnel);
    return isLate ? [`${event} after the close of ${tunnel}`] : [];
  });
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined;
  }
}
