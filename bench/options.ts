// Reads the command line of the bench. Starts nothing.
import { parseArgs } from 'node:util';
import { measures, ownMeasures } from './measures/index.ts';
import type { Measure, OwnMeasure, Scale } from './measures/types.ts';
import { peers } from './peers/index.ts';
import type { Peer } from './peers/types.ts';

export interface Options {
  readonly peers: readonly Peer[];
  readonly measures: readonly Measure[];
  readonly ownMeasures: readonly OwnMeasure[];
  readonly scale: Scale;
  readonly json: string | undefined;
  /** True when everything was measured at full length: only then the page is written. */
  readonly isWhole: boolean;
}

const full: Scale = {
  rounds: 3,
  warmMs: 4000,
  tunnelsMs: 2000,
  bulkMs: 1500,
  tripsMs: 1500,
  settleMs: 5000,
  verdictMs: 50,
  stages: [1000, 10_000],
  rules: [10, 1000, 100_000],
};
const quick: Scale = {
  rounds: 1,
  warmMs: 100,
  tunnelsMs: 200,
  bulkMs: 150,
  tripsMs: 150,
  settleMs: 50,
  verdictMs: 5,
  stages: [50, 200],
  rules: [10, 1000],
};

/** What was asked for, or why it cannot be done. */
export function readOptions(args: readonly string[]): Options | { readonly problem: string } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string' },
        measures: { type: 'string' },
        rounds: { type: 'string' },
        json: { type: 'string' },
      },
    });
    const scale = values.quick ? quick : full;
    const rounds = values.rounds === undefined ? scale.rounds : Number(values.rounds);
    if (!Number.isInteger(rounds) || rounds < 1)
      return { problem: `--rounds \`${values.rounds}\` is not a number\nhelp: give 1 or more` };
    return {
      peers: pick('--only', values.only, peers),
      ...pickMeasures(values.measures),
      scale: { ...scale, rounds },
      json: values.json,
      isWhole: !values.quick && values.only === undefined && values.measures === undefined,
    };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

function pickMeasures(names: string | undefined): Pick<Options, 'measures' | 'ownMeasures'> {
  const picked = pick('--measures', names, [...measures, ...ownMeasures]);
  return {
    measures: measures.filter((one) => picked.includes(one)),
    ownMeasures: ownMeasures.filter((one) => picked.includes(one)),
  };
}

function pick<One extends { readonly name: string }>(
  flag: string,
  names: string | undefined,
  all: readonly One[],
): readonly One[] {
  if (names === undefined) return all;
  const wanted = names.split(',');
  const unknown = wanted.find((name) => !all.some((one) => one.name === name));
  if (unknown !== undefined)
    throw new Error(
      `${flag}: \`${unknown}\` is not known\nhelp: give some of ${all.map(({ name }) => name).join(',')}`,
    );
  return all.filter(({ name }) => wanted.includes(name));
}
