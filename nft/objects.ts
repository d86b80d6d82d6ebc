// nftables JSON objects as types, and the few builders the fence needs (libnftables-json(5)). No text is ever templated: a value stays a JSON string.
import { counterOf, type CounterName, type DropClass } from './classes.ts';

/** What `nft -j list` prints: one kind of object (`table`, `chain`, `rule`, ...) and its body. Foreign kinds included. */
export type NftObject = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

type Key =
  | { readonly meta: { readonly key: 'iifname' | 'oifname' | 'nfproto' | 'l4proto' } }
  | {
      readonly payload: {
        readonly protocol: 'ether' | 'arp' | 'ip' | 'tcp' | 'th' | 'udp';
        readonly field: string;
      };
    }
  | { readonly fib: { readonly result: 'type'; readonly flags: readonly ['daddr'] } };
type MaskedKey = { readonly '&': readonly [Key, readonly string[]] };
type Scalar = string | number | { readonly prefix: Prefix };
type Value = Scalar | { readonly set: readonly Scalar[] };

/** An IPv4 network: all host bits of `addr` are zero. */
export interface Prefix {
  readonly addr: string;
  readonly len: number;
}

export interface Match {
  readonly match: { readonly op: '==' | '!='; readonly left: Key | MaskedKey; readonly right: Value };
}

export type Statement =
  | Match
  | { readonly counter: CounterName }
  | { readonly accept: null }
  | { readonly drop: null }
  | { readonly notrack: null }
  | { readonly limit: { readonly rate: number; readonly burst: number; readonly per: 'second' } }
  | {
      readonly log: {
        readonly prefix: string;
        readonly group: number;
        readonly snaplen: number;
        readonly 'queue-threshold': number;
      };
    }
  | { readonly jump: { readonly target: string } };

/**
 * The families in which we have a table: `inet` for packets, `bridge` for frames between members of one bridge, `netdev` for frames as they come in
 * by a link.
 */
export type Family = 'inet' | 'bridge' | 'netdev';

interface InTable {
  readonly family: Family;
  readonly table: string;
}

/** `prio` is the kernel's number: lower runs earlier, -300 is `raw`, before connection tracking. */
export interface Hook {
  readonly type: 'filter';
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress';
  readonly prio: number;
  readonly policy: 'accept';
  /** The link whose frames an `ingress` chain sees. */
  readonly dev?: string;
}

export type Rule = InTable & { readonly chain: string; readonly expr: readonly Statement[] };

/** What one `add` may carry. */
export type Addable =
  | { readonly table: { readonly family: Family; readonly name: string } }
  | { readonly counter: InTable & { readonly name: CounterName } }
  | { readonly chain: InTable & { readonly name: string } & Partial<Hook> }
  | { readonly rule: Rule };

export const accept: Statement = { accept: null };
export const drop: Statement = { drop: null };
/** Connection tracking, which comes later, passes this packet by: no entry is made, none is consulted. */
export const notrack: Statement = { notrack: null };
/** What follows is done for so many packets a second, and for as many at once. */
export const atMost = (perSecond: number): Statement => ({
  limit: { rate: perSecond, burst: perSecond, per: 'second' },
});
/** A copy of the packet's first bytes goes to whoever listens to that NFLOG group, at once. */
export const log = (prefix: string, group: number, snaplen: number): Statement => ({
  log: { prefix, group, snaplen, 'queue-threshold': 1 },
});
export const jump = (target: string): Statement => ({ jump: { target } });
export const count = (name: DropClass): Statement => ({ counter: counterOf(name) });

export const arrivesOn = (...names: readonly string[]): Match =>
  match('==', { meta: { key: 'iifname' } }, oneOf(names));
export const leavesOn = (...names: readonly string[]): Match =>
  match('==', { meta: { key: 'oifname' } }, oneOf(names));
export const arrivesNotOn = (name: string): Match => match('!=', { meta: { key: 'iifname' } }, name);
export const leavesNotOn = (name: string): Match => match('!=', { meta: { key: 'oifname' } }, name);
export const isFamily = (family: 'ipv6'): Match => match('==', { meta: { key: 'nfproto' } }, family);
export const isProtocol = (...names: readonly string[]): Match =>
  match('==', { meta: { key: 'l4proto' } }, oneOf(names));

export const source = (wanted: string | Prefix): Match => match('==', address4('saddr'), asScalar(wanted));
export const sourceIsNot = (wanted: string | Prefix): Match =>
  match('!=', address4('saddr'), asScalar(wanted));
export const destination = (...wanted: readonly (string | Prefix)[]): Match =>
  match('==', address4('daddr'), oneOf(wanted.map(asScalar)));
/** The type of an Ethernet frame, by nft's names. */
export const isEther = (...types: readonly ('ip' | 'ip6' | '8021q' | '8021ad')[]): Match =>
  match('==', { payload: { protocol: 'ether', field: 'type' } }, oneOf(types));
export const isNotEther = (type: 'ip'): Match =>
  match('!=', { payload: { protocol: 'ether', field: 'type' } }, type);
/** Who asks or answers in ARP (RFC 826), and about whom. */
export const arp = (field: 'saddr ip' | 'daddr ip', op: '==' | '!=', wanted: string | Prefix): Match =>
  match(op, { payload: { protocol: 'arp', field } }, asScalar(wanted));

/** The kernel's own verdict on the destination, from its routing table: also addresses that were added a moment ago. */
export const destinationIs = (...types: readonly ('local' | 'broadcast' | 'multicast')[]): Match =>
  match('==', { fib: { result: 'type', flags: ['daddr'] } }, oneOf(types));

/** A port of TCP or UDP, or with `th` of whatever transport an earlier match has settled. */
export const port = (
  protocol: 'tcp' | 'th' | 'udp',
  field: 'sport' | 'dport',
  ports: readonly number[],
): Match => match('==', { payload: { protocol, field } }, oneOf(ports.toSorted((a, b) => a - b)));

/** Not the first packet of a new TCP connection: SYN without ACK (RFC 9293 §3.5). */
export const opensNothing: Match = match(
  '!=',
  { '&': [{ payload: { protocol: 'tcp', field: 'flags' } }, ['syn', 'ack']] },
  'syn',
);

function match(op: Match['match']['op'], left: Key | MaskedKey, right: Value): Match {
  return { match: { op, left, right } };
}

function address4(field: 'saddr' | 'daddr'): Key {
  return { payload: { protocol: 'ip', field } };
}

function asScalar(wanted: string | Prefix): Scalar {
  return typeof wanted === 'string' ? wanted : { prefix: wanted };
}

/** A set of one is written as that one: nft would list it so (1.0.6). */
function oneOf(values: readonly Scalar[]): Value {
  const [only, ...more] = values;
  return only !== undefined && more.length === 0 ? only : { set: values };
}
