// The fence as a pure function: a spec in, one transaction out. Stateless on purpose: it holds without connection tracking, and cuts flows that were there before it.
import { drops, type ChainRule } from './chain-rule.ts';
import { counterOf, dropClasses } from './classes.ts';
import { withLog } from './log-plan.ts';
import { frameChainOf, linkFrames } from './link-plan.ts';
import { chainOf, frameRules, metadata, multicast, packetRules } from './network-plan.ts';
import * as o from './objects.ts';
import { asPrefix, checkSpec, type FenceSpec, type Sandbox } from './spec.ts';
import { replaceTable, together, type Transaction } from './transaction.ts';

/**
 * Before connection tracking (-200), NAT (-100) and every ordinary filter (0), in every hook. An accept of another table never undoes
 * a drop of ours, at whatever priority it stands: a packet must pass them all.
 */
const raw = -300;
const hooks = {
  inet: ['prerouting', 'input', 'forward', 'output', 'postrouting'],
  bridge: ['prerouting', 'input', 'forward', 'output'],
} as const;

/** The families in which the fence for `spec` has a table. */
export function familiesOf({ sandboxes, networks = [] }: FenceSpec): readonly o.Family[] {
  const hasFrames = sandboxes.some(({ frames }) => frames === true);
  return [
    'inet',
    ...(networks.length === 0 ? [] : ['bridge' as const]),
    ...(hasFrames ? ['netdev' as const] : []),
  ];
}

/** The whole fence around `spec.sandboxes` and `spec.networks`. Throws a FenceError `spec_invalid`. */
export function planFence(spec: FenceSpec): Transaction {
  const { table, pool, sandboxes, networks = [], log } = checkSpec(spec);
  const packets = [
    ...sandboxes.flatMap((sandbox) => [...rulesFrom(sandbox, pool), ...belts(sandbox)]),
    ...networks.flatMap(packetRules),
  ];
  const framed = sandboxes.filter(({ frames }) => frames === true);
  const bases = {
    inet: hooks.inet.filter((hook) => hook !== 'output' || sandboxes.length > 0).map(asBase),
    bridge: hooks.bridge.map(asBase),
    netdev: framed.map((one): Base => ({ name: frameChainOf(one), hook: 'ingress', dev: one.interface })),
  };
  const rules = { inet: packets, bridge: networks.flatMap(frameRules), netdev: framed.flatMap(linkFrames) };
  return together(
    ...familiesOf(spec).map((family) =>
      replaceTable(family, table, content({ family, table }, bases[family], withLog(rules[family], log))),
    ),
  );
}

type Base = Pick<o.Hook, 'hook' | 'dev'> & { readonly name: string };

function asBase(hook: o.Hook['hook']): Base {
  return { name: hook, hook };
}

/** Counters that are used, base chains, chains that are jumped to, rules. */
function content(
  place: { readonly family: o.Family; readonly table: string },
  bases: readonly Base[],
  rules: readonly ChainRule[],
): readonly o.Addable[] {
  const based = new Set(bases.map(({ name }) => name));
  const called = new Set(rules.map(([chain]) => chain).filter((chain) => !based.has(chain)));
  const counted = new Set(
    rules.flat().flatMap((one) => (typeof one === 'object' && 'counter' in one ? [one.counter] : [])),
  );
  return [
    ...dropClasses
      .map(({ name }) => counterOf(name))
      .filter((name) => counted.has(name))
      .map((name): o.Addable => ({ counter: { ...place, name } })),
    ...bases.map(({ name, ...hook }): o.Addable => ({
      chain: { ...place, name, type: 'filter', ...hook, prio: raw, policy: 'accept' },
    })),
    ...[...called].map((name): o.Addable => ({ chain: { ...place, name } })),
    ...rules.map(([chain, ...expr]): o.Addable => ({ rule: { ...place, chain, expr } })),
  ];
}

/** Everything that a sandbox sends, judged before routing: one accept, then one drop for each class, the last one for whatever is left. */
function rulesFrom(sandbox: Sandbox, pool: string): readonly ChainRule[] {
  const chain = chainOf(sandbox);
  return [
    ['prerouting', o.arrivesOn(sandbox.interface), o.jump(chain)],
    // Untracked: an address that is used again meets no flow of whoever had it before, nor another table's NAT.
    ...waysOf(sandbox).map((way): ChainRule => [chain, ...toProxy(way), o.notrack, o.accept]),
    ...udpRules(sandbox, chain, toStub, [], [o.notrack, o.accept]),
    ...drops(chain, [
      ['ipv6', o.isFamily('ipv6')],
      ['spoof', o.sourceIsNot(sandbox.address)],
      ['metadata', o.destination(...metadata)],
      ['multicast', o.destination(...multicast)],
      ['multicast', o.destinationIs('broadcast', 'multicast')],
      ['dns', o.isProtocol('tcp', 'udp'), o.port('th', 'dport', [53, 853])],
      ['icmp', o.isProtocol('icmp')],
      // Ahead of lateral: the host's end of every sandbox's link lies in the pool too.
      ['host', o.destinationIs('local')],
      ['lateral', o.destination(asPrefix(pool))],
      ['udp', o.isProtocol('udp', 'udplite')],
      ['direct', o.isProtocol('tcp')],
      ['other'],
    ]),
  ];
}

/** What holds if the first chain were ever passed: by another table's NAT, by source routing, or from the host's side. */
function belts(sandbox: Sandbox): readonly ChainRule[] {
  const from = o.arrivesOn(sandbox.interface);
  const to = o.leavesOn(sandbox.interface);
  return [
    ...waysOf(sandbox).map((way): ChainRule => ['input', from, ...toProxy(way), o.accept]),
    ...udpRules(sandbox, 'input', toStub, [from]),
    ['input', from, o.count('host'), o.drop],
    ['forward', from, o.count('forward'), o.drop],
    ['forward', to, o.count('forward'), o.drop],
    ['output', to, o.notrack],
    // Postrouting, not output: here the way out is final, also after another table's NAT.
    ...waysOf(sandbox).map((way): ChainRule => ['postrouting', to, ...fromProxy(way), o.accept]),
    ...udpRules(sandbox, 'postrouting', fromStub, [to]),
    ['postrouting', to, o.count('inbound'), o.drop],
  ];
}

type Way = Pick<Sandbox, 'address' | 'proxy' | 'ports'>;

/** The proxy's address and those of services: each is open on its own ports alone. */
function waysOf({ address, proxy, ports, services = [] }: Sandbox): readonly Way[] {
  return [
    { address, proxy, ports },
    ...services.map((one) => ({ address, proxy: one.address, ports: one.ports })),
  ];
}

function toProxy({ address, proxy, ports }: Way): readonly o.Match[] {
  return [o.source(address), o.destination(proxy), o.port('tcp', 'dport', ports)];
}

function fromProxy({ address, proxy, ports }: Way): readonly o.Match[] {
  return [o.source(proxy), o.destination(address), o.port('tcp', 'sport', ports), o.opensNothing];
}

type UdpMatches = (sandbox: Sandbox, ports: readonly number[]) => readonly o.Match[];

/** One rule, or none for a sandbox that has no UDP. */
function udpRules(
  sandbox: Sandbox,
  chain: string,
  matches: UdpMatches,
  link: readonly o.Match[] = [],
  verdict: readonly o.Statement[] = [o.accept],
): readonly ChainRule[] {
  const { datagrams = [] } = sandbox;
  return datagrams.length === 0 ? [] : [[chain, ...link, ...matches(sandbox, datagrams), ...verdict]];
}

const toStub: UdpMatches = ({ address, proxy }, ports) => [
  o.source(address),
  o.destination(proxy),
  o.port('udp', 'dport', ports),
];

/** UDP has no first packet to tell: whoever holds the stub's port on this machine may speak first. */
const fromStub: UdpMatches = ({ address, proxy }, ports) => [
  o.source(proxy),
  o.destination(address),
  o.port('udp', 'sport', ports),
];
