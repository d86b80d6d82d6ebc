// What must hold of Sallyport, six points: each with the figure read, the bound, and whether it is met. Pure. The bounds are the issue's;
// a point whose figures were not read says so.
import type { Scale } from './measures/types.ts';
import { own, type Taken } from './rounds.ts';
import { figureOf, table } from './tables.ts';

const subject = 'sallyport-splice';

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
  readonly share?: number;
  readonly unit: string;
  readonly digits: number;
}

interface Against {
  readonly point: number;
  readonly says: string;
  readonly id: string;
  readonly peer: string;
  readonly unit: string;
  readonly digits: number;
  readonly share?: number;
}

const third = 1 / 3;
const [perGiB, perTunnel, micro] = [
  { unit: 's', digits: 3, share: third },
  { unit: 'µs', digits: 0 },
  { unit: 'µs', digits: 0 },
];

function against({ id, peer, ...rest }: Against): Claim {
  return { ...rest, figure: { peer: subject, id }, bound: 'most', of: { peer, id } };
}

function claims({ stages: [, many], rules }: Scale): readonly Claim[] {
  const workers = (count: number, id: string): Figured => ({ peer: `sallyport-workers-${count}`, id });
  const slowest = (count: number): Figured => ({ peer: own, id: `decideSlowest${count}` });
  const alone = (id: string): Figured => ({ peer: subject, id });
  return [
    against({
      point: 1,
      says: "CPU per GiB down, a third of Squid's",
      id: 'downCpu',
      peer: 'squid',
      ...perGiB,
    }),
    against({ point: 1, says: "CPU per GiB up, a third of Squid's", id: 'upCpu', peer: 'squid', ...perGiB }),
    against({
      point: 1,
      says: "CPU per GiB down, a third of HAProxy's",
      id: 'downCpu',
      peer: 'haproxy',
      ...perGiB,
    }),
    against({
      point: 1,
      says: "CPU per GiB up, a third of HAProxy's",
      id: 'upCpu',
      peer: 'haproxy',
      ...perGiB,
    }),
    against({ point: 2, says: "CPU per tunnel, Squid's", id: 'tunnelCpu', peer: 'squid', ...perTunnel }),
    against({
      point: 2,
      says: "CPU per tunnel, tinyproxy's",
      id: 'tunnelCpu',
      peer: 'tinyproxy',
      ...perTunnel,
    }),
    against({
      point: 2,
      says: "CPU per tunnel, HAProxy's (the one to chase)",
      id: 'tunnelCpu',
      peer: 'haproxy',
      ...perTunnel,
    }),
    against({ point: 3, says: "round trip p50, Squid's", id: 'tripP50', peer: 'squid', ...micro }),
    against({ point: 3, says: "round trip p99, Squid's", id: 'tripP99', peer: 'squid', ...micro }),
    against({
      point: 3,
      says: "p50 beside bulk data, Squid's",
      id: 'loadedTripP50',
      peer: 'squid',
      ...micro,
    }),
    against({
      point: 3,
      says: "p99 beside bulk data, Squid's",
      id: 'loadedTripP99',
      peer: 'squid',
      ...micro,
    }),
    {
      point: 4,
      says: `memory per idle tunnel at ${many}`,
      figure: alone('manyIdle'),
      bound: 'most',
      of: 4,
      unit: 'KiB',
      digits: 1,
    },
    {
      point: 4,
      says: 'idle tunnels held',
      figure: alone('held'),
      bound: 'least',
      of: many,
      unit: '',
      digits: 0,
    },
    {
      point: 4,
      says: 'a new tunnel beside them, p50',
      figure: alone('newP50'),
      bound: 'most',
      of: { peer: 'squid', id: 'newP50' },
      unit: 'ms',
      digits: 2,
    },
    ...rules.map((count): Claim => ({
      point: 5,
      says: `decide(), ${count} rules, the slowest case`,
      figure: slowest(count),
      bound: 'most',
      of: 1000,
      unit: 'ns',
      digits: 0,
    })),
    {
      point: 5,
      says: 'longest wait during a reload',
      figure: { peer: own, id: 'reloadWait' },
      bound: 'most',
      of: 50,
      unit: 'ms',
      digits: 0,
    },
    {
      point: 6,
      says: 'CPU per tunnel, 2 workers beside 1',
      figure: workers(2, 'tunnelCpu'),
      bound: 'most',
      of: workers(1, 'tunnelCpu'),
      share: 1.1,
      unit: 'µs',
      digits: 0,
    },
    {
      point: 6,
      says: 'tunnels a second, 2 workers beside 1',
      figure: workers(2, 'tunnelRate'),
      bound: 'least',
      of: workers(1, 'tunnelRate'),
      share: 1.6,
      unit: '',
      digits: 0,
    },
  ];
}

/** The six points as a table. */
export function pointsTable(taken: Taken, scale: Scale): readonly string[] {
  const seen = withSlowest(taken, scale);
  return table(
    ['point', 'what', 'read', 'bound', 'of the bound', 'met'],
    claims(scale).map((claim) => row(claim, seen)),
  );
}

function row(claim: Claim, taken: Taken): readonly string[] {
  const { point, says, figure, bound, of, share = 1, unit, digits } = claim;
  const read = figureOf(taken, figure.peer, figure.id);
  const base = typeof of === 'number' ? of : figureOf(taken, of.peer, of.id);
  const show = (value: number): string => `${value.toFixed(digits)} ${unit}`.trim();
  const start = [String(point), says];
  if (read === undefined || base === undefined)
    return [...start, read === undefined ? '–' : show(read), '–', '–', 'not measured'];
  const limit = base * share;
  const isMet = bound === 'most' ? read <= limit : read >= limit;
  return [
    ...start,
    show(read),
    `${bound === 'most' ? '≤' : '≥'} ${show(limit)}`,
    (read / limit).toFixed(2),
    isMet ? 'met' : '**not met**',
  ];
}

/** The slowest of the cases of decide() at each size, reading by reading. */
function withSlowest(taken: Taken, { rules }: Scale): Taken {
  const figures = taken.readings[own] ?? {};
  const added = rules.flatMap((count) => {
    const cases = ['Hit', 'Wild', 'Miss'].map((kind) => figures[`decide${kind}${count}`]);
    const [first] = cases;
    if (first === undefined) return [];
    return [
      [`decideSlowest${count}`, first.map((_, i) => Math.max(...cases.map((all) => all?.[i] ?? 0)))] as const,
    ];
  });
  return { ...taken, readings: { ...taken.readings, [own]: { ...figures, ...Object.fromEntries(added) } } };
}
