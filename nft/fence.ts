// The fence as a pure function: a spec in, one transaction out. Stateless on purpose: it holds without connection tracking, and cuts flows that were there before it.
import { counterOf, dropClasses, type DropClass } from './classes.ts';
import * as o from './objects.ts';
import { checkSpec, type FenceSpec, type Sandbox } from './spec.ts';
import { replaceTable, type Transaction } from './transaction.ts';

/**
 * Before connection tracking (-200), NAT (-100) and every ordinary filter (0), in every hook. An accept of another table never undoes
 * a drop of ours, at whatever priority it stands: a packet must pass them all.
 */
const raw = -300;
const hooks = ['prerouting', 'input', 'forward', 'postrouting'] as const;

/** Where clouds serve metadata: AWS/GCP/Azure/Oracle, AWS ECS tasks, AWS EKS pods, AWS DNS, AWS NTP, Alibaba, Azure wire server, Oracle. */
const metadata = [
  '100.100.100.200',
  '168.63.129.16',
  '169.254.169.123',
  '169.254.169.253',
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '192.0.0.192',
];
const multicast: readonly (string | o.Prefix)[] = [{ addr: '224.0.0.0', len: 4 }, '255.255.255.255'];

/** The whole table around `spec.sandboxes`. Throws a FenceError `spec_invalid`. */
export function planFence(spec: FenceSpec): Transaction {
  const { table, pool, sandboxes } = checkSpec(spec);
  const place = { family: 'inet', table } as const;
  const chain = (name: string): o.Addable => ({ chain: { ...place, name } });
  return replaceTable(table, [
    ...dropClasses.map(({ name }): o.Addable => ({ counter: { ...place, name: counterOf(name) } })),
    ...hooks.map((hook): o.Addable => ({
      chain: { ...place, name: hook, type: 'filter', hook, prio: raw, policy: 'accept' },
    })),
    ...sandboxes.map((sandbox) => chain(chainOf(sandbox))),
    ...sandboxes
      .flatMap((sandbox) => [...rulesFrom(sandbox, pool), ...belts(sandbox)])
      .map(([name, ...expr]): o.Addable => ({ rule: { ...place, chain: name, expr } })),
  ]);
}

type ChainRule = readonly [chain: string, ...expr: readonly o.Statement[]];

/** Everything that a sandbox sends, judged before routing: one accept, then one drop for each class, the last one for whatever is left. */
function rulesFrom(sandbox: Sandbox, pool: string): readonly ChainRule[] {
  const chain = chainOf(sandbox);
  const dropped = (name: DropClass, ...expr: readonly o.Match[]): ChainRule => [
    chain,
    ...expr,
    o.count(name),
    o.drop,
  ];
  return [
    ['prerouting', o.arrivesOn(sandbox.interface), o.jump(chain)],
    [chain, ...toProxy(sandbox), o.accept],
    ...udpRules(sandbox, chain, toStub),
    dropped('ipv6', o.isFamily('ipv6')),
    dropped('spoof', o.sourceIsNot(sandbox.address)),
    dropped('metadata', o.destination(...metadata)),
    dropped('multicast', o.destination(...multicast)),
    dropped('multicast', o.destinationIs('broadcast', 'multicast')),
    dropped('dns', o.isProtocol('tcp', 'udp'), o.port('th', 'dport', [53, 853])),
    dropped('icmp', o.isProtocol('icmp')),
    // Ahead of lateral: the host's end of every sandbox's link lies in the pool too.
    dropped('host', o.destinationIs('local')),
    dropped('lateral', o.destination(asPrefix(pool))),
    dropped('udp', o.isProtocol('udp', 'udplite')),
    dropped('direct', o.isProtocol('tcp')),
    dropped('other'),
  ];
}

/** What holds if the first chain were ever passed: by another table's NAT, by source routing, or from the host's side. */
function belts(sandbox: Sandbox): readonly ChainRule[] {
  const from = o.arrivesOn(sandbox.interface);
  const to = o.leavesOn(sandbox.interface);
  return [
    ['input', from, ...toProxy(sandbox), o.accept],
    ...udpRules(sandbox, 'input', toStub, from),
    ['input', from, o.count('host'), o.drop],
    ['forward', from, o.count('forward'), o.drop],
    ['forward', to, o.count('forward'), o.drop],
    // Postrouting, not output: here the way out is final, also after another table's NAT.
    ['postrouting', to, ...fromProxy(sandbox), o.accept],
    ...udpRules(sandbox, 'postrouting', fromStub, to),
    ['postrouting', to, o.count('inbound'), o.drop],
  ];
}

function toProxy({ address, proxy, ports }: Sandbox): readonly o.Match[] {
  return [o.source(address), o.destination(proxy), o.port('tcp', 'dport', ports)];
}

function fromProxy({ address, proxy, ports }: Sandbox): readonly o.Match[] {
  return [o.source(proxy), o.destination(address), o.port('tcp', 'sport', ports), o.opensNothing];
}

type UdpMatches = (sandbox: Sandbox, ports: readonly number[]) => readonly o.Match[];

/** One rule, or none for a sandbox that has no UDP. */
function udpRules(
  sandbox: Sandbox,
  chain: string,
  matches: UdpMatches,
  ...link: readonly o.Match[]
): readonly ChainRule[] {
  const { datagrams = [] } = sandbox;
  return datagrams.length === 0 ? [] : [[chain, ...link, ...matches(sandbox, datagrams), o.accept]];
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

function chainOf(sandbox: Sandbox): string {
  return `from_${sandbox.name}`;
}

function asPrefix(pool: string): o.Prefix {
  const [addr = '', len] = pool.split('/');
  return { addr, len: Number(len) }; // INVARIANT: checkSpec has refused whatever is not a network
}
