// Two sandboxes, a host that routes between them and an origin beyond it, all in namespaces of the test; and probes that know their packets again.
// The host forwards and each sandbox has a default route: everything is set up for a packet to get out, so that only the fence can stop it.
import { join } from 'node:path';
import { createNft, type DropClass, type FenceSpec, type Nft } from '../../../nft/index.ts';
import { makeLink, makeNetns, type Netns, type Running } from '../../helpers/netns.ts';

const send = join(import.meta.dirname, 'send.pl');
const sink = join(import.meta.dirname, 'sink.pl');

export const needed = ['root', 'netns', 'nft', 'perl', 'ip', 'nsenter', 'ipv6'];

export const spec: FenceSpec = {
  table: 'sallyport_test',
  pool: '10.219.0.0/16',
  sandboxes: [
    { name: 'a', interface: 'sp-a', address: '10.219.0.2', proxy: '10.219.0.1', ports: [3128, 5432] },
    { name: 'b', interface: 'sp-b', address: '10.219.0.6', proxy: '10.219.0.5', ports: [3128] },
  ],
};

/** One packet that must not get through: what `send.pl` is told, the class that must count it, and who would see it without a fence. */
export interface Probe {
  readonly title: string;
  readonly words: readonly string[];
  readonly counts: DropClass;
  readonly at: 'host' | 'peer' | 'origin' | 'self';
}

export interface World {
  readonly host: Netns;
  readonly a: Netns;
  readonly b: Netns;
  readonly origin: Netns;
  readonly nft: Nft;
  /** What has arrived: at the host after all its rules, at the links of the peer (`b`), the origin and `a` itself. */
  readonly sinks: Readonly<Record<Probe['at'], Running>>;
  /** Sends from `from`; the id by which sinks show the packet, and what the sender noticed. */
  probe(from: Netns, words: readonly string[]): Promise<{ readonly id: string; readonly result: string }>;
  /** Resolves when all that was sent before has been handled: a packet that nothing stops has gone the same ways and arrived everywhere. */
  settled(): Promise<void>;
}

interface Owner {
  teardown(handler: () => Promise<void>): void;
}

export async function makeWorld(t: Owner): Promise<World> {
  const [host, a, b, origin] = await Promise.all([
    makeNetns(t, 'host'),
    makeNetns(t, 'a'),
    makeNetns(t, 'b'),
    makeNetns(t, 'origin'),
  ]);
  for (const [name, value] of forwarding)
    await host.must(['sh', '-c', `echo ${value} > /proc/sys/net/${name}`]);
  await makeLink(
    { ns: host, dev: 'sp-a', addresses: ['10.219.0.1/30', '2001:db8:a::1/64'] },
    { ns: a, dev: 'eth0', addresses: ['10.219.0.2/30', '2001:db8:a::2/64'] },
  );
  await makeLink(
    { ns: host, dev: 'sp-b', addresses: ['10.219.0.5/30', '2001:db8:b::1/64'] },
    { ns: b, dev: 'eth0', addresses: ['10.219.0.6/30', '2001:db8:b::2/64'] },
  );
  await makeLink(
    { ns: host, dev: 'up0', addresses: ['198.51.100.1/24', '2001:db8:f::1/64'] },
    { ns: origin, dev: 'eth0', addresses: ['198.51.100.2/24', '2001:db8:f::2/64'] },
  );
  await route(a, '10.219.0.1', '2001:db8:a::1');
  await route(b, '10.219.0.5', '2001:db8:b::1');
  await route(origin, '198.51.100.1', '2001:db8:f::1');
  await host.must(['ip', 'route', 'add', 'default', 'via', '198.51.100.2']); // also towards the metadata address
  await origin.must(['ip', 'addr', 'add', '169.254.169.254/32', 'dev', 'lo']);
  const sinks = {
    host: host.start(['perl', sink, 'local', '10.219.0.1']),
    peer: wire(b),
    origin: wire(origin),
    self: wire(a),
  };
  await serve(host, 3128);
  for (const one of Object.values(sinks)) await one.line((line) => line === 'ready');
  const ids = countFrom(20_000);
  const probe: World['probe'] = async (from, words) => {
    const id = ids();
    const { stdout, stderr } = await from.run(['perl', send, id, ...words]);
    return { id, result: (stdout + stderr).trim() };
  };
  const settled: World['settled'] = async () => {
    const fromA = await probe(a, ['tcp', '10.219.0.1', '3128']);
    const fromB = await probe(b, ['tcp', '10.219.0.5', '3128']);
    const toOrigin = await probe(host, ['udp', '198.51.100.2', '9']);
    await Promise.all([
      sinks.host.line(hasId(fromA.id)),
      sinks.origin.line(hasId(toOrigin.id)),
      sinks.self.line(hasId(`${fromA.id} 3128`)), // the proxy's answer
      sinks.peer.line(hasId(`${fromB.id} 3128`)),
    ]);
  };
  return { host, a, b, origin, nft: createNft({ enter: host.enter }), sinks, probe, settled };
}

/** Whether a sink's line is about the packet with that id. */
export function hasId(id: string): (line: string) => boolean {
  return (line) => line.endsWith(` ${id}`);
}

const forwarding: readonly (readonly [name: string, value: number])[] = [
  ['ipv4/ip_forward', 1],
  ['ipv6/conf/all/forwarding', 1],
  ['ipv4/conf/all/rp_filter', 0],
  ['ipv4/conf/default/rp_filter', 0],
  ['ipv4/conf/all/accept_source_route', 1],
  ['ipv4/conf/default/accept_source_route', 1],
];

async function route(ns: Netns, via4: string, via6: string): Promise<void> {
  await ns.must(['ip', 'route', 'add', 'default', 'via', via4]);
  await ns.must(['ip', '-6', 'route', 'add', 'default', 'via', via6]);
}

/** A TCP server on every address of the namespace: sends back what it gets, and to every client what is written to its stdin. */
export async function serve(ns: Netns, port: number): Promise<Running> {
  const script = `const server = require('net').createServer(s => {
      s.on('error', () => {}).pipe(s); process.stdin.on('data', data => s.write(data)) })
    server.listen(${port}, '::', () => console.log('ready'))`;
  const server = ns.start([process.execPath, '-e', script]);
  await server.line((line) => line === 'ready');
  return server;
}

/** A TCP client: what is written to its stdin goes out, what comes back are its lines; the first line is `connected`. */
export function client(ns: Netns, host: string, port: number): Running {
  const script = `const s = require('net').connect(${port}, '${host}', () => console.log('connected'));
    s.on('error', e => console.log(e.code)); process.stdin.pipe(s); s.pipe(process.stdout)`;
  return ns.start([process.execPath, '-e', script]);
}

function wire(ns: Netns): Running {
  return ns.start(['perl', sink, 'wire', 'eth0']);
}

function countFrom(first: number): () => string {
  let next = first;
  return () => String(next++);
}
