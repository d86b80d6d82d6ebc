// The page docs/benchmarks.md, and what is printed: one text. Decides no figure and writes no file.
import { machineRows } from './machine.ts';
import { tunnelsThatFit } from './measures/idle.ts';
import type { Options } from './options.ts';
import { pointsTable } from './points.ts';
import type { Taken } from './rounds.ts';
import { measureTable, ownTable, ratioTable, table } from './tables.ts';
import type { World } from './world.ts';

export interface Told extends Pick<Options, 'peers' | 'measures' | 'ownMeasures' | 'scale'> {
  readonly world: World;
  readonly taken: Taken;
  /** Load of the machine before the first run. */
  readonly loadBefore: string;
}

const intro = [
  '# Benchmarks',
  '',
  'Written by `npm run bench`; do not edit. The first lines of `bench/main.ts` tell what it can be asked for.',
  '',
  'Client, upstream and proxy are processes of their own on one machine, in a network namespace with a loopback interface alone. The client',
  'and the upstream are one load generator in C (`bench/load/`). Every byte is counted at both ends and samples are compared with what was sent;',
  'a run that lost or changed anything is listed as failed and is part of no figure. Peers take turns, each started afresh in every round;',
  'figures are the median over the rounds, with the least and the most. CPU is user and kernel time of all processes of the peer, which a busy',
  'machine changes less than the clock; rates and waits also hold the cost of the load generator, which shares the cores.',
  '',
  'Every peer has the same allowlist of 101 names with the one that is asked for in the middle, and logs nothing. Sallyport has everything on:',
  'policy, address guard, server-name gate, an audit line for each decision and close in a file, metrics. HAProxy gets no CONNECT: its clients',
  'begin with the ClientHello. HAProxy runs a thread for each core, as it comes; tinyproxy tries its list in order. No other peer checks which',
  'addresses a name leads to, and none but HAProxy and Sallyport looks at the hello.',
];

export function reportText(told: Told): string {
  const { peers, scale, world, taken, loadBefore } = told;
  const rows = peers.map((peer) => [
    peer.title,
    peer.absent() === undefined ? peer.version() : `absent: ${peer.absent()}`,
  ]);
  const machine = [
    ...machineRows(world.descriptors),
    ['load before the first run', loadBefore],
    ['rounds', String(scale.rounds)],
  ];
  return lines([
    ...intro,
    ...section('Machine', table(['what', 'this machine'], machine, 2)),
    ...section('Peers', table(['peer', 'version'], rows, 2)),
    ...section('What must hold', pointsNote, pointsTable(taken, scale, tunnelsThatFit(world.descriptors))),
    ...peerSections(told),
    ...told.ownMeasures.flatMap((measure) =>
      section(measure.title, [measure.about(scale)], ownTable(measure, taken, scale)),
    ),
    ...failureSection(taken),
  ]);
}

const pointsNote = [
  'Sallyport with its splice relay, beside what it was held to. The ratio is what was read over the bound.',
];

function peerSections({ measures, peers, taken, scale }: Told): readonly string[] {
  return measures.flatMap((measure) =>
    section(
      measure.title,
      [measure.about(scale)],
      measureTable(measure, peers, taken, scale),
      ratioTable(measure, peers, taken, scale),
    ),
  );
}

function failureSection({ failures }: Taken): readonly string[] {
  if (failures.length === 0) return section('Failed runs', ['None.']);
  const rows = failures.map(({ peer, measure, round, problem }) => [peer, measure, String(round), problem]);
  return section('Failed runs', table(['peer', 'measure', 'round', 'problem'], rows, 4));
}

function section(title: string, ...blocks: readonly (readonly string[])[]): readonly string[] {
  return ['', `## ${title}`, ...blocks.flatMap((block) => (block.length > 0 ? ['', ...block] : []))];
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}
