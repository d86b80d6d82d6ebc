// The tables of the report: a row for each peer, a column for each figure, its range, and how it compares with Squid and HAProxy. Pure.
import type { Figure, Measure, Scale } from './measures/types.ts';
import type { Peer } from './peers/types.ts';
import type { Taken } from './rounds.ts';
import { median } from './stats.ts';

/** The peers that every other is compared with, by name and as the columns call them. */
const yardsticks = [
  ['squid', 'Squid'],
  ['haproxy', 'HAProxy'],
] as const;

/** The median of a figure; undefined when it was not read. */
export function figureOf(taken: Taken, peer: string, id: string): number | undefined {
  const readings = taken.readings.get(peer)?.get(id);
  return readings === undefined ? undefined : median(readings);
}

/** One table in markdown; a peer that is absent or has no reading keeps its row. */
export function measureTable(measure: Measure, peers: readonly Peer[], taken: Taken, scale: Scale): string {
  const figures = measure.figures(scale);
  const head = ['peer', ...figures.map(({ title, unit }) => (unit === '' ? title : `${title}, ${unit}`))];
  const rows = peers.map((peer) => [peer.title, ...figures.map((figure) => cell(peer, figure, taken))]);
  return table(head, rows);
}

/** How the first figure of a measure compares: 2.00 is twice as good as the yardstick. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n');
}

function cell(peer: Peer, figure: Figure, taken: Taken): string {
  if (peer.absent() !== undefined) return 'absent';
  const readings = taken.readings.get(peer.name)?.get(figure.id);
  if (readings === undefined) return '–';
  const show = (value: number): string => value.toFixed(figure.digits);
  const range = `${show(Math.min(...readings))}–${show(Math.max(...readings))}`;
  const ratios = yardsticks.map(([name]) => ratio(peer.name, name, figure, taken));
  return `**${show(median(readings))}** (${range}) ${ratios.join(' ')}`.trim();
}

function ratio(peer: string, yardstick: string, { id }: Figure, taken: Taken): string {
  const [ours, theirs] = [figureOf(taken, peer, id), figureOf(taken, yardstick, id)];
  return ours === undefined || theirs === undefined || theirs === 0 ? '' : `${(ours / theirs).toFixed(2)}×`;
}
