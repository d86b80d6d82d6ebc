// What a verdict costs inside the process, without a socket: decide() by size of the policy, and the ClientHello reader.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { OwnMeasure, Readings } from './types.ts';

const child = join(import.meta.dirname, 'verdict.child.ts');
const kinds = [
  ['Hit', 'a name that a rule gives'],
  ['Wild', 'a name under a wildcard'],
  ['Miss', 'a name that no rule knows'],
] as const;

export const verdict: OwnMeasure = {
  name: 'verdict',
  title: 'The verdict alone',
  about: () =>
    'CPU time in one process without sockets; half of the rules are wildcards, and 1,024 different names are asked in turn.',
  figures: ({ rules }) => [
    ...rules.flatMap((count) =>
      kinds.map(([kind, what]) => ({
        id: `decide${kind}${count}`,
        title: `decide(), ${count} rules, ${what}`,
        unit: 'ns',
        digits: 0,
        better: 'less' as const,
      })),
    ),
    { id: 'helloParse', title: 'reading a ClientHello of 517 bytes', unit: 'ns', digits: 0, better: 'less' },
  ],
  async take(_, { verdictMs, rules }) {
    const { stdout } = await promisify(execFile)(process.execPath, [
      child,
      ...[verdictMs, ...rules].map(String),
    ]);
    return JSON.parse(stdout) as Readings;
  },
};
