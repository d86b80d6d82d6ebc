// docs/metrics.md, made from the table that the code itself is made from.
import { type MetricRow, metricTable } from './metric-table.ts';

const head = `# Metrics

Generated from \`proxy/observe/metric-table.ts\` by \`npm run docs\`; do not edit.

\`sallyport proxy --metrics ADDR:PORT\` serves them at \`/metrics\` on a socket of their own, and the admin socket serves them too.
They are never on the proxy port, and a sandbox cannot reach them. Every label has a closed list of values, all of them there from
the start at 0: host names belong in the audit. The usual \`process_*\` and \`nodejs_*\` metrics come with them.
`;

/** The text of docs/metrics.md. */
export function metricsPage(): string {
  const table = [
    '| metric | type | labels | meaning |',
    '| --- | --- | --- | --- |',
    ...metricTable.map(tableLine),
  ];
  const values = metricTable.flatMap(labelLines);
  return [head, ...table, '', '## Label values', '', ...values, ''].join('\n');
}

function tableLine(row: MetricRow): string {
  const labels = Object.keys(row.labels).map((name) => `\`${name}\``);
  return `| \`${row.name}\` | ${row.type} | ${labels.join(', ')} | ${row.help} |`;
}

function labelLines(row: MetricRow): string[] {
  return Object.entries(row.labels).flatMap(([label, values]) =>
    values === 'any'
      ? []
      : [`- \`${row.name}\` \`${label}\`: ${values.map((value) => `\`${value}\``).join(' ')}`],
  );
}
