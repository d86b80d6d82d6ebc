// Sends the probes that come from inside: datagrams which the disguise makes into what the table says, and a socket's own connections.
import { payloadOf } from './packet.ts';
import { lentTo, type Place } from './place.ts';
import type { Marked } from './observer.ts';
import type { Prober } from './prober.ts';

/** Resolves when all of one probe is with the kernel: with '' or the kernel's word. A connection is begun and not waited for. */
export async function sendFromSandbox(
  prober: Prober,
  { slot }: Place,
  { probe, mark }: Marked,
): Promise<string> {
  const { carrier, six } = lentTo(slot);
  const { ports, to } = probe.packet;
  if (probe.isReal === true) {
    prober.order({ id: probe.id, kind: 'tcp', address: to, port: ports[0] ?? 0 }, () => undefined);
    return '';
  }
  const kind = probe.family === 4 ? 'udp4' : 'udp6';
  const address = probe.family === 4 ? carrier : six.carrier;
  const payload = payloadOf(mark, probe.packet).toString('hex');
  const errors = ports.map(async (port) => {
    const { promise, resolve } = Promise.withResolvers<string>();
    prober.order({ id: `${probe.id} ${port}`, kind, address, port, payload }, (answer) =>
      resolve(answer.outcome === 'error' ? answer.error : ''),
    );
    return await promise;
  });
  return (await Promise.all(errors)).find((error) => error !== '') ?? '';
}
