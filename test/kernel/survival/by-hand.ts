// A sandbox that somebody else made, with `sallyport fence apply` around it and a proxy of two workers beside it. No run and no watch.
import { join } from 'node:path';
import { entry } from '../../helpers/proxy-process.ts';
import { childrenOf } from '../../helpers/workers.ts';
import { makeLink, makeNetns, type Running } from '../../helpers/netns.ts';
import { makeCell, type Cell } from './cell.ts';
import type { Grounds } from './grounds.ts';

export const byHandLink = 'sp-byhand';

export interface ByHand {
  readonly cell: Cell;
  readonly table: string;
  readonly proxy: Running;
  /** Process ids of the workers there are now. */
  readonly workers: () => readonly number[];
  readonly metrics: () => Promise<string>;
}

export const byHandTable = 'sallyport_byhand';

const [address, own, metrics] = ['10.219.250.2', '10.219.250.1', '10.98.0.1:9193'];

export async function makeByHand(t: Parameters<typeof makeNetns>[0], { world }: Grounds): Promise<ByHand> {
  const { host, dir } = world;
  const inner = await makeNetns(t, 'byhand');
  await makeLink(
    { ns: host, dev: byHandLink, addresses: [`${own}/30`] },
    { ns: inner, dev: 'eth0', addresses: [`${address}/30`] },
  );
  const ports = ['--port', '3128', '--port', '5432'];
  const fence = [
    '--table',
    byHandTable,
    '--interface',
    byHandLink,
    '--address',
    address,
    '--proxy',
    own,
    ...ports,
  ];
  await host.must([process.execPath, entry, 'fence', 'apply', ...fence]);
  const listen = ['--listen', `${own}:3128`, '--principal', `byhand=${address}/32`, '--service-listen', own];
  const service = ['--service', 'db=private.test:5432@10.98.0.2', '--audit', join(dir, 'byhand.jsonl')];
  const words = [...listen, ...service, '--metrics', metrics, '--workers', '2', ...world.options];
  const argv = [process.execPath, entry, 'proxy', ...words];
  const proxy = host.start(['sh', '-c', 'exec "$@" 2>&1', 'sh', ...argv]);
  t.teardown(async () => await proxy.stop());
  await proxy.line((line) => line.includes('"listening"'));
  return {
    cell: makeCell(t, {
      host,
      link: byHandLink,
      inside: inner.enter,
      address,
      proxy: own,
      outside: world.address,
    }),
    table: byHandTable,
    proxy,
    workers: () => childrenOf(proxy.child.pid ?? 0),
    metrics: async () => await host.must(['curl', '-sS', '--noproxy', '*', `http://${metrics}/metrics`]),
  };
}
