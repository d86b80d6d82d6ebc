// What the command `policy` prints, for people and as JSON. Decides nothing: it puts answers of the policy into words.

import type { Policy } from './compile.ts';
import { decide } from './decide.ts';
import type { Decision } from './decision.ts';
import { canonicalText, defaultPorts, type RuleDocument, type ServiceDocument } from './document.ts';
import { explain, type Explanation } from './explain.ts';
import { localRequest, runPolicyTests, type AskableMode } from './policy-tests.ts';
import { printable } from './printable.ts';
import { reasonText } from './reasons.ts';

/** One answer, both ways, and the exit status that goes with it. */
export interface Report {
  readonly text: string;
  readonly json: unknown;
  readonly status: 0 | 1;
}

const indent = ' '.repeat(7);

/** `policy check`: status 1 if any target is denied. */
export function checkReport(policy: Policy, targets: readonly string[], mode?: AskableMode): Report {
  const answers = targets.map((target) => {
    const request = localRequest(target, mode);
    const decision = decide(policy, request);
    return { target, decision, explanation: explain(policy, decision, request.target) };
  });
  const isDenied = answers.some(({ decision }) => decision.verdict === 'deny');
  const note =
    'Judged by name, port and protocol; addresses and the TLS server name are judged when a tunnel opens.';
  return {
    text: `${answers.map(describe).join('\n')}\n${note}\n`,
    json: answers.map(({ target, decision, explanation }) => ({
      target,
      ...decision,
      sentence: reasonText(decision.reason).sentence,
      ...explanation,
    })),
    status: isDenied ? 1 : 0,
  };
}

interface Answer {
  readonly decision: Decision;
  readonly explanation: Explanation;
}

function describe({ decision, explanation: { hint, didYouMean, howToRequest } }: Answer): string {
  const { verdict, reason, rule, detail } = decision;
  const isAsked = verdict === 'deny' && reason !== 'request_malformed';
  const lines = [
    `${verdict.padEnd(5)}  ${shownTarget(decision)}  ${reason}`,
    `${indent}${reasonText(reason).sentence}`,
    ...(detail === null ? [] : [`${indent}detail: ${detail}`]),
    ...(rule === null ? [] : [`${indent}rule: ${rule.id} (${rule.host}), group ${rule.group ?? 'none'}`]),
    ...(rule === null ? [] : [`${indent}why: ${rule.reason}`]),
    ...(verdict === 'allow' ? [] : [`${indent}hint: ${hint}`]),
    ...(didYouMean === undefined ? [] : [`${indent}did you mean: ${didYouMean}`]),
    ...(isAsked ? [`${indent}more: ${howToRequest}`] : []),
  ];
  return `${lines.join('\n')}\n`;
}

function shownTarget({ host, port }: Decision): string {
  if (port === null) return `\`${host}\``;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** `policy validate`. */
export function validateReport(policy: Policy, path: string): Report {
  const { allow, deny, services, tests } = policy.document;
  const notes = allow.filter(({ protocol }) => protocol === 'http').map(plainHttpNote);
  const counts = { allow: allow.length, deny: deny.length, services: services.length, tests: tests.length };
  const summary = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
  const lines = [
    `ok: \`${printable(path)}\` is a valid policy (${summary.join(', ')})`,
    `digest: ${policy.digest}`,
    ...notes.map((note) => `note: ${note}`),
  ];
  return {
    text: `${lines.join('\n')}\n`,
    json: { valid: true, policy: policy.digest, ...counts, notes },
    status: 0,
  };
}

function plainHttpNote({ id }: RuleDocument): string {
  return `rule \`${printable(id)}\` is for plain HTTP: whoever is on the way can read what it carries, and change it`;
}

/** `policy show`: the document in force, in its canonical form. */
export function showReport(policy: Policy): Report {
  return {
    text: `digest: ${policy.digest}\n${canonicalText(policy.document)}`,
    json: { policy: policy.digest, document: policy.document },
    status: 0,
  };
}

/** `policy test`: status 1 if one of the document's own tests does not hold. */
export function testReport(policy: Policy): Report {
  const failures = runPolicyTests(policy);
  const total = policy.document.tests.length;
  const lines = failures.map(
    ({ target, expect, decision }) =>
      `failed: \`${printable(target)}\`: expected ${expect}, got ${decision.verdict} (${decision.reason})`,
  );
  const summary =
    total === 0 ? 'the policy has no tests of its own' : `${total - failures.length} of ${total} hold`;
  return {
    text: `${[...lines, summary].join('\n')}\n`,
    json: { policy: policy.digest, total, failures },
    status: failures.length > 0 ? 1 : 0,
  };
}

/** `policy list`: one line per rule and service. */
export function listReport(policy: Policy): Report {
  const { allow, deny, services } = policy.document;
  const rows = [
    ...allow.map((rule) => ['allow', rule.host, portsOf(rule), rule.group ?? '-', rule.reason]),
    ...services.map((service) => [
      'service',
      shownService(service),
      'tcp',
      service.group ?? '-',
      service.reason,
    ]),
    ...deny.map((rule) => ['deny', rule.host, 'all', rule.group ?? '-', rule.reason]),
  ];
  return {
    text: rows.length === 0 ? 'nothing is allowed\n' : table(rows),
    json: { policy: policy.digest, allow, services, deny },
    status: 0,
  };
}

function portsOf({ ports, protocol }: RuleDocument): string {
  const name = protocol ?? 'tls';
  return `${name}/${(ports ?? [defaultPorts[name]]).join(',')}`;
}

function shownService({ name, host, port }: ServiceDocument): string {
  return `${name} -> ${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return `${rows.map(line).join('\n')}\n`;
}
