// What must hold of Sallyport, six points: each with the figure read, the bound, and whether it is met. Pure. A point whose figures were not read
// says so.
import type { Scale } from './measures/types.ts';
import { own, type Taken } from './rounds.ts';
import { figureOf, table } from './tables.ts';

const subject = 'sallyport-splice';
const third = 1 / 3;

interface Figured {
  readonly peer: string;
  readonly id: string;
}

/** `figure` must be at most (or at least) `share` of what `of` gives: a figure of the same run, or a plain number. */
interface Claim {
  readonly point: number;
  readonly says: string;
  readonly figure: Figured;
  readonly bound: 'most' | 'least';
  readonly of: Figured | number;
  readonly share: number;
  readonly unit: string;
  readonly digits: number;
}

/** At most `share` of what a peer needs for the same. */
type BesidePeer = readonly [
  point: number,
  says: string,
  id: string,
  peer: string,
  share: number,
  unit: string,
  digits: number,
];

const besidePeers: readonly BesidePeer[] = [
  [1, "CPU per GiB down, a third of Squid's", 'downCpu', 'squid', third, 's', 3],
  [1, "CPU per GiB up, a third of Squid's", 'upCpu', 'squid', third, 's', 3],
  [1, "CPU per GiB down, a third of HAProxy's", 'downCpu', 'haproxy', third, 's', 3],
  [1, "CPU per GiB up, a third of HAProxy's", 'upCpu', 'haproxy', third, 's', 3],
  [2, "CPU per tunnel, Squid's", 'tunnelCpu', 'squid', 1, 'µs', 0],
  [2, "CPU per tunnel, tinyproxy's", 'tunnelCpu', 'tinyproxy', 1, 'µs', 0],
  [2, "CPU per tunnel, HAProxy's (the one to chase)", 'tunnelCpu', 'haproxy', 1, 'µs', 0],
  [3, "round trip p50, Squid's", 'tripP50', 'squid', 1, 'µs', 1],
  [3, "round trip p99, Squid's", 'tripP99', 'squid', 1, 'µs', 1],
  [3, "p50 beside bulk data, Squid's", 'loadedTripP50', 'squid', 1, 'µs', 0],
  [3, "p99 beside bulk data, Squid's", 'loadedTripP99', 'squid', 1, 'µs', 0],
  [4, "a new tunnel beside the idle ones, p50, Squid's", 'newP50', 'squid', 1, 'ms', 2],
];

/** At most a number, or at least; the figure is of the splice relay, or (`own`) of Sallyport without a peer. */
type BesideNumber = readonly [
  point: number,
  says: string,
  peer: string,
  id: string,
  bound: Claim['bound'],
  of: number,
  unit: string,
  digits: number,
];

function besideNumbers({ stages: [, many], rules }: Scale, fits: number): readonly BesideNumber[] {
  const held =
    fits < many ? `idle tunnels held (descriptors of one process allow ${fits})` : 'idle tunnels held';
  return [
    [4, `memory per idle tunnel at ${many}`, subject, 'manyIdle', 'most', 4, 'KiB', 1],
    [4, held, subject, 'held', 'least', Math.min(many, fits), '', 0],
    ...rules.map((count): BesideNumber => [
      5,
      `decide(), ${count} rules, the slowest case`,
      own,
      `decideSlowest${count}`,
      'most',
      1000,
      'ns',
      0,
    ]),
    [5, 'longest wait during a reload', own, 'reloadWait', 'most', 50, 'ms', 0],
  ];
}

/** Two workers beside one. The load generator shares the cores, so the rate cannot double. */
type TwoWorkers = readonly [says: string, id: string, bound: Claim['bound'], share: number, unit: string];

const twoWorkers: readonly TwoWorkers[] = [
  ['CPU per tunnel, 2 workers beside 1', 'tunnelCpu', 'most', 1.1, 'µs'],
  ['tunnels a second, 2 workers beside 1', 'tunnelRate', 'least', 1.5, ''],
];

function claims(scale: Scale, fits: number): readonly Claim[] {
  const all: readonly Claim[] = [
    ...besidePeers.map(([point, says, id, peer, share, unit, digits]): Claim => {
      return {
        point,
        says,
        figure: { peer: subject, id },
        bound: 'most',
        of: { peer, id },
        share,
        unit,
        digits,
      };
    }),
    ...besideNumbers(scale, fits).map(([point, says, peer, id, bound, of, unit, digits]): Claim => {
      return { point, says, figure: { peer, id }, bound, of, share: 1, unit, digits };
    }),
    ...twoWorkers.map(([says, id, bound, share, unit]): Claim => {
      const [one, two] = [1, 2].map((count) => ({ peer: `sallyport-workers-${count}`, id }));
      return { point: 6, says, figure: two ?? { peer: '', id }, bound, of: one ?? 0, share, unit, digits: 0 };
    }),
  ];
  return all.toSorted((a, b) => a.point - b.point);
}

/** The six points as a table; `fits` is how many tunnels the descriptors of one process allow. */
export function pointsTable(taken: Taken, scale: Scale, fits: number): readonly string[] {
  const seen = withSlowest(taken, scale);
  const rows = claims(scale, fits).map((claim) => row(claim, seen));
  return table(['point', 'what', 'read', 'bound', 'ratio', 'met'], rows, 2);
}

function row(
  { point, says, figure, bound, of, share, unit, digits }: Claim,
  taken: Taken,
): readonly string[] {
  const read = figureOf(taken, figure.peer, figure.id);
  const base = typeof of === 'number' ? of : figureOf(taken, of.peer, of.id);
  const show = (value: number): string => `${value.toFixed(digits)} ${unit}`.trim();
  const start = [String(point), says];
  if (read === undefined || base === undefined)
    return [...start, read === undefined ? '–' : show(read), '–', '–', 'not measured'];
  const limit = base * share;
  const isMet = bound === 'most' ? read <= limit : read >= limit;
  const sign = bound === 'most' ? '≤' : '≥';
  return [
    ...start,
    show(read),
    `${sign} ${show(limit)}`,
    (read / limit).toFixed(2),
    isMet ? 'met' : '**not met**',
  ];
}

/** With the slowest of the cases of decide() at each size, reading by reading. */
function withSlowest(taken: Taken, { rules }: Scale): Taken {
  const figures = taken.readings[own] ?? {};
  const slowest = rules.flatMap((count) => {
    const [hit, wild, miss] = ['Hit', 'Wild', 'Miss'].map((kind) => figures[`decide${kind}${count}`]);
    if (hit === undefined) return [];
    return [
      [`decideSlowest${count}`, hit.map((ns, i) => Math.max(ns, wild?.[i] ?? 0, miss?.[i] ?? 0))] as const,
    ];
  });
  return { ...taken, readings: { ...taken.readings, [own]: { ...figures, ...Object.fromEntries(slowest) } } };
}
