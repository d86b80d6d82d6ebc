// Hears whether anybody on this machine asks a resolver for the name that no policy lists: a table that counts such questions as they go out,
// to wherever, over UDP or TCP. Sends one itself that goes nowhere, so that silence means something.
import { createSocket } from 'node:dgram';
import type { RunNames } from '../names.ts';
import { canaryOf } from './ask-proxy.ts';
import { questionFor, wireName } from './dns-message.ts';
import {
  count,
  drop,
  dropTable,
  field,
  isEqual,
  load,
  meta,
  newTable,
  readCounters,
  type Words,
} from './nft-words.ts';
import { protocols } from './packet.ts';
import { gateNames, type Place } from './place.ts';
import type { Resource } from '../resource.ts';

/** Questions that went out: `control` is the gate's own. */
export interface Heard {
  readonly asked: number;
  readonly control: number;
}

export interface Overhearing extends Resource {
  /** Sends the control, and reads. */
  heard(): Promise<Heard>;
}

/** Loopback, and nobody's: what is sent there is dropped by the same table. */
const nowhere = '127.255.255.254';

/** Puts the table in place. */
export async function overhear({
  names,
  directory,
}: Pick<Place, 'names' | 'directory'>): Promise<Overhearing> {
  const { questions } = gateNames(names);
  await load(`${directory}/gate-questions`, questionTable(names, questions));
  return {
    name: `table ${questions}`,
    async heard() {
      await ask(canaryOf(names.id));
      const counters = await readCounters('inet', questions);
      return { asked: counters.get('asked') ?? -1, control: counters.get('control') ?? -1 };
    },
    release: async () => await dropTable('inet', questions),
  };
}

/** Bytes from the start of the transport header to the name: after UDP's 8, or TCP's 20 without and 32 with timestamps and a length, come 12 of DNS. */
const places: readonly (readonly ['udp' | 'tcp', number])[] = [
  ['udp', 20],
  ['tcp', 34],
  ['tcp', 46],
];

function questionTable(names: RunNames, table: string): readonly Words[] {
  const words = newTable('inet', table);
  const rules = places.flatMap(([protocol, offset]) => {
    const isIt = [
      isEqual(meta('l4proto'), protocols[protocol]),
      isEqual(field(protocol, 'dport'), 53),
      ...bytesAt(offset, wireName(canaryOf(names.id)).subarray(0, 16)),
    ];
    const toNowhere = isEqual(field('ip', 'daddr'), nowhere);
    return [
      words.rule('asking', ...isIt, toNowhere, count('control'), drop),
      words.rule('asking', ...isIt, count('asked')),
    ];
  });
  return [
    words.table,
    words.counter('asked'),
    words.counter('control'),
    words.chain('asking', 'output', -300),
    ...rules,
  ];
}

/** Four at a time: nft's numbers are no larger in JSON. */
function bytesAt(offset: number, bytes: Buffer): readonly Words[] {
  return Array.from({ length: bytes.length / 4 }, (_, i) =>
    isEqual({ payload: { base: 'th', offset: (offset + i * 4) * 8, len: 32 } }, bytes.readUInt32BE(i * 4)),
  );
}

/** Whether it could be sent is told by the counter: a drop on the way out may be an error here. */
async function ask(name: string): Promise<void> {
  const socket = createSocket('udp4');
  socket.on('error', () => undefined);
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.send(questionFor(name, 'a'), 53, nowhere, () => resolve());
  await promise;
  socket.close();
}
