// Counts what arrives where nothing may arrive: at every address outside, at a neighbour, and at the addresses of the host. By the kernel, so nothing is missed.
import type { Netns } from '../../helpers/netns.ts';

/** Packets by protocol. */
export type Counts = Readonly<Record<string, number>>;

export interface Receiver {
  readonly counts: () => Promise<Counts>;
  readonly reset: () => Promise<void>;
}

const kinds = ['tcp', 'udp', 'icmp', 'other', 'ipv6'] as const;

/** Nothing arrived. */
export const nothing: Counts = Object.fromEntries(kinds.map((kind) => [kind, 0]));

/** Counts in `ns` at `hook`. `expected` are rules that let pass uncounted what may arrive there. */
export async function receive(
  ns: Netns,
  hook: 'prerouting' | 'input',
  expected: readonly string[],
): Promise<Receiver> {
  const counters = kinds.map((kind) => `counter n_${kind} { }`).join('\n');
  const rules = [
    ...expected.map((match) => `${match} accept`),
    // What this machine says to its neighbours by itself.
    'ip6 saddr { ::, fe80::/10, 2001:db8:97::/64, 2001:db8:98::/64 } accept',
    'meta nfproto ipv6 counter name n_ipv6 accept',
    ...['tcp', 'udp', 'icmp'].map((kind) => `ip protocol ${kind} counter name n_${kind} accept`),
    'counter name n_other',
  ].join('\n');
  await ns.must(['nft', '-f', '-'], {
    input: `table inet receiver {\n${counters}\nchain c {\ntype filter hook ${hook} priority 300; policy accept;\n${rules}\n}\n}\n`,
  });
  return {
    counts: async () =>
      readCounts(await ns.must(['nft', '-j', 'list', 'counters', 'table', 'inet', 'receiver'])),
    reset: async () => void (await ns.must(['nft', 'reset', 'counters', 'table', 'inet', 'receiver'])),
  };
}

function readCounts(text: string): Counts {
  const { nftables } = JSON.parse(text) as {
    nftables: readonly { counter?: { name: string; packets: number } }[];
  };
  const counters = nftables.flatMap(({ counter }) => (counter === undefined ? [] : [counter]));
  return Object.fromEntries(
    kinds.map((kind) => [kind, counters.find(({ name }) => name === `n_${kind}`)?.packets ?? -1]),
  );
}
