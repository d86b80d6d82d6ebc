// What may come in by a sandbox's own link as a frame: IP, which the packet rules judge, and ARP between it and the proxy's addresses. Pure.
import { drops, type ChainRule } from './chain-rule.ts';
import * as o from './objects.ts';
import type { Sandbox } from './spec.ts';

/** Chain of the frames that a sandbox sends. */
export function frameChainOf({ name }: Pick<Sandbox, 'name'>): string {
  return `frames_${name}`;
}

/** A tagged frame has the type of its tag, whatever is in it. */
export function linkFrames(sandbox: Sandbox): readonly ChainRule[] {
  const chain = frameChainOf(sandbox);
  const { address, proxy, services = [] } = sandbox;
  const own = o.arp('saddr ip', '==', address);
  return [
    ...[proxy, ...services.map((one) => one.address)].map((asked): ChainRule => [
      chain,
      own,
      o.arp('daddr ip', '==', asked),
      o.accept,
    ]),
    [chain, o.isEther('ip', 'ip6'), o.accept],
    ...drops(chain, [['layer2']]),
  ];
}
