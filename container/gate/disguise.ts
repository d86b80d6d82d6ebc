// Makes datagrams of the prober inside into packets of any protocol, source and destination, by a table in the sandbox's own namespace.
// Only marked datagrams of uid 0 are touched: what runs inside does not have that uid. No raw socket is needed.
import type { Resource } from '../resource.ts';
import type { Place } from './place.ts';
import { dropTable, changes, hasMark, isEqual, load, meta, newTable, type Words } from './nft-words.ts';
import type { Marked } from './observer.ts';

const table = 'sallyport_gate';

/** Words that enter the sandbox's network. */
export function entering({ names }: Pick<Place, 'names'>): readonly string[] {
  return ['nsenter', `--net=${names.netnsPath}`, '--'];
}

/** Puts the table in place; it goes with `release`, or with the namespace. */
export async function openDisguise(place: Place, marked: readonly Marked[]): Promise<Resource> {
  const sent = marked.filter(({ probe }) => probe.from === 'sandbox' && probe.isReal !== true);
  await load(`${place.directory}/gate-disguise`, disguiseTable(sent), entering(place));
  return { name: 'gate disguise', release: async () => await dropTable('inet', table, entering(place)) };
}

function disguiseTable(marked: readonly Marked[]): readonly Words[] {
  const words = newTable('inet', table);
  return [
    words.table,
    words.chain('output', 'output', 0),
    ...marked.map(({ probe: { family, packet }, mark }) => {
      const { ports: _ports, ...wire } = packet;
      return words.rule('output', isEqual(meta('skuid'), 0), hasMark(mark), ...changes(family, wire));
    }),
  ];
}
