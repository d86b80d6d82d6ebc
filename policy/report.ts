// What the command `policy` prints, for people and as JSON. Decides nothing: it puts answers of the policy into words.

import type { Policy } from './compile.ts';
import type { Decision } from './decision.ts';
import { canonicalText, defaultPorts, type RuleDocument, type ServiceDocument } from './document.ts';
import { explain } from './explain.ts';
import { decideLocal, runPolicyTests } from './policy-tests.ts';
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
export function checkReport(policy: Policy, targets: readonly string[]): Report {
  const answers = targets.map((target) => ({ target, decision: decideLocal(policy, target) }));
  const isDenied = answers.some(({ decision }) => decision.verdict === 'deny');
  const note =
    'Judged by name, port and protocol; addresses and the TLS server name are judged when a tunnel opens.';
  return {
    text: `${answers.map(({ decision }) => describe(policy, decision)).join('\n')}\n${note}\n`,
    json: answers.map(({ target, decision }) => ({
      target,
      ...decision,
      sentence: reasonText(decision.reason).sentence,
      ...explain(policy, decision),
    })),
    status: isDenied ? 1 : 0,
  };
}

function describe(policy: Policy, decision: Decision): string {
  const { verdict, reason, rule, detail } = decision;
  const { hint, didYouMean, howToRequest } = explain(policy, decision);
  const lines = [
    `${verdict.padEnd(5)}  ${shownTarget(decision)}  ${reason}`,
    `${indent}${reasonText(reason).sentence}`,
    ...(detail === null ? [] : [`${indent}detail: ${detail}`]),
    ...(rule === null ? [] : [`${indent}rule: ${rule.id} (${rule.host}), group ${rule.group ?? 'none'}`]),
    ...(rule === null ? [] : [`${indent}why: ${rule.reason}`]),
    ...(verdict === 'allow' ? [] : [`${indent}hint: ${hint}`]),
    ...(didYouMean === undefined ? [] : [`${indent}did you mean: ${didYouMean}`]),
    ...(verdict === 'allow' ? [] : [`${indent}more: ${howToRequest}`]),
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
  const counts = { allow: allow.length, deny: deny.length, services: services.length, tests: tests.length };
  const summary = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
  return {
    text: `ok: \`${printable(path)}\` is a valid policy (${summary.join(', ')})\ndigest: ${policy.digest}\n`,
    json: { valid: true, policy: policy.digest, ...counts },
    status: 0,
  };
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
