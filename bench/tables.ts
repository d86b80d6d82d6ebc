// The tables of the report in markdown: what was read, and how it compares with Squid and HAProxy. Pure.
import type { Figure, Measure, OwnMeasure, Scale } from './measures/types.ts';
import type { Peer } from './peers/types.ts';
import { own, type Taken } from './rounds.ts';
import { median } from './stats.ts';

/** Every peer is compared with these, by name and title. */
const yardsticks = [
  ['squid', 'Squid'],
  ['haproxy', 'HAProxy'],
] as const;

/** The median of a figure; undefined when it was not read. */
export function figureOf(taken: Taken, peer: string, id: string): number | undefined {
  const readings = taken.readings[peer]?.[id];
  return readings === undefined ? undefined : median(readings);
}

/** A row for each peer, also for one that is absent or failed; a column for each figure. */
export function measureTable(
  measure: Measure,
  peers: readonly Peer[],
  taken: Taken,
  scale: Scale,
): readonly string[] {
  const figures = measure.figures(scale);
  const rows = peers.map((peer) => [peer.title, ...figures.map((figure) => peerCell(peer, figure, taken))]);
  return table(['peer', ...figures.map(headOf)], rows);
}

/** The same medians as multiples of Squid's and HAProxy's; empty when neither was measured. */
export function ratioTable(
  measure: Measure,
  peers: readonly Peer[],
  taken: Taken,
  scale: Scale,
): readonly string[] {
  const figures = measure.figures(scale);
  const present = yardsticks.filter(([name]) => taken.readings[name] !== undefined);
  const rows = peers
    .filter(({ name }) => taken.readings[name] !== undefined && !present.some(([other]) => other === name))
    .map((peer) => [
      peer.title,
      ...figures.map(({ id }) =>
        present.map(([other]) => ratioText(peer.name, other, id, taken)).join(' / '),
      ),
    ]);
  const head = `times ${present.map(([, title]) => title).join(' / ')}`;
  return present.length === 0 || rows.length === 0
    ? []
    : table([head, ...figures.map(({ title }) => title)], rows);
}

/** A row for each figure of Sallyport alone. */
export function ownTable(measure: OwnMeasure, taken: Taken, scale: Scale): readonly string[] {
  const rows = measure
    .figures(scale)
    .map((figure) => [headOf(figure), cell(figure, taken.readings[own]?.[figure.id])]);
  return table(['what', 'median (least–most)'], rows);
}

/** Lines of a markdown table; the first `texts` columns (default: one) are text, the others numbers. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  texts = 1,
): readonly string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i < texts ? '---' : '---:'))), ...rows.map(line)];
}

function headOf({ title, unit }: Figure): string {
  return unit === '' ? title : `${title}, ${unit}`;
}

function peerCell(peer: Peer, figure: Figure, taken: Taken): string {
  return peer.absent() === undefined ? cell(figure, taken.readings[peer.name]?.[figure.id]) : 'absent';
}

function cell({ digits }: Figure, readings: readonly number[] | undefined): string {
  if (readings === undefined) return '–';
  const show = (value: number): string => value.toFixed(digits);
  return `**${show(median(readings))}** (${show(Math.min(...readings))}–${show(Math.max(...readings))})`;
}

function ratioText(peer: string, other: string, id: string, taken: Taken): string {
  const [ours, theirs] = [figureOf(taken, peer, id), figureOf(taken, other, id)];
  return ours === undefined || theirs === undefined || theirs === 0 ? '–' : (ours / theirs).toFixed(2);
}
