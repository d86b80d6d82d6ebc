// The mutants of the fence that no packet can tell from the fence, each with the reason. Everything else must be noticed by the gate.

/** `pattern` fits the whole name of each; `count` is how many there are. */
export interface Equivalent {
  readonly pattern: RegExp;
  readonly count: number;
  readonly because: string;
}

/** Positions are counted from 1; `from` is the chain of all that a sandbox sends: 1 accept, 2 ipv6, 3 spoof, 4 metadata, 5 and 6 multicast, 7 dns,
 * 8 icmp, 9 host, 10 lateral, 11 udp, 12 direct, 13 other; `frames` that of its frames: 1 ARP, 2 IP, 3 the drop. */
export const equivalents: readonly Equivalent[] = [
  {
    pattern: /^from \d+: ipv6 accept in front$/,
    count: 11,
    because: 'from 3 on: every IPv6 packet was dropped by rule 2',
  },
  {
    pattern: /^from 1[23]: udp accept in front$/,
    count: 2,
    because: 'every UDP packet was dropped by rule 11 at the latest',
  },
  {
    pattern: /^from 13: tcp accept in front$/,
    count: 1,
    because: 'every TCP packet was dropped by rule 12 at the latest',
  },
  {
    pattern: /^from 5: (deleted|daddr (without .*|half as wide|255\.255\.255\.255 made .*))$/,
    count: 5,
    because: "rule 6 drops the same packets by the routing table's word, and counts them in the same class",
  },
  {
    pattern: /^from 6: daddr without "multicast"$/,
    count: 1,
    because: 'rule 5 has dropped all of 224.0.0.0/4, and counts it in the same class',
  },
  {
    pattern: /^from (1|2|4|5|7|11): swapped with the next$/,
    count: 6,
    because:
      'no packet fits both rules, or both count it in the same class: IPv6 has no IPv4 address, metadata addresses are no multicast, both multicast rules, ICMP has no port, UDP is not TCP',
  },
  {
    pattern: /^(input|postrouting) 1: (iifname|oifname) missing$/,
    count: 2,
    because: "an accept for other links than the sandbox's: the policy of the chain accepts those anyway",
  },
  {
    pattern: /^(input [12]|forward 1): ipv6 accept in front$/,
    count: 3,
    because: 'no IPv6 packet of the sandbox comes so far: prerouting has dropped it',
  },
  {
    pattern: /^forward 2: ipv6 accept in front$/,
    count: 1,
    because:
      'what is routed in is dropped by postrouting, and Linux routes IPv6 only by a switch of the whole machine, which the gate leaves alone',
  },
  {
    pattern: /^(from 1: notrack missing|output: (chain missing|emptied|priority .*)|output 1: .*)$/,
    count: 16,
    because:
      'what connection tracking knows no packet shows: test/kernel/identity.test.ts reads its entries, and each look of the watch compares the rules',
  },
  {
    pattern: /^frames: policy drop$/,
    count: 1,
    because: 'every frame has met a verdict before the policy is asked',
  },
  {
    pattern: /^frames [123]: (tcp|udp) accept in front$/,
    count: 6,
    because: 'rule 2 lets all of IP through: the packet rules judge it',
  },
  {
    pattern: /^frames 1: swapped with the next$/,
    count: 1,
    because: 'ARP is not IP',
  },
  {
    pattern: /^forward 1: swapped with the next$/,
    count: 1,
    because: 'both drop, and count in the same class',
  },
  // With a stub: 2 in `from`, `input` and `postrouting` is the accept for its datagrams.
  {
    pattern: /^with a stub: ((from|input|postrouting) 1|from 2): swapped with the next$/,
    count: 4,
    because: 'no packet fits both rules: one is for TCP, the other for UDP, and neither for IPv6',
  },
  {
    pattern: /^with a stub: from 2: notrack missing$/,
    count: 1,
    because: 'as of rule 1',
  },
  {
    pattern: /^with a stub: (input|postrouting) 2: (iifname|oifname) missing$/,
    count: 2,
    because: "an accept for other links than the sandbox's: the policy of the chain accepts those anyway",
  },
  {
    pattern: /^with a stub: input 2: ipv6 accept in front$/,
    count: 1,
    because: 'no IPv6 packet of the sandbox comes so far: prerouting has dropped it',
  },
];

/** Of the rules for a service's address, each the second of its chain, for the reasons that hold for the first ones above. */
export const serviceEquivalents: readonly string[] = [
  'from 2: notrack missing',
  'from 2: swapped with the next',
  'input 2: iifname missing',
  'input 2: ipv6 accept in front',
  'postrouting 2: oifname missing',
];
