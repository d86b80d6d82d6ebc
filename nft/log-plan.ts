// Makes the drops of a plan tell of themselves: a copy of the packet's head goes to an NFLOG group, so many a second for each class. Pure; what is
// dropped and counted stays as it is, also when nobody listens.
import type { ChainRule } from './chain-rule.ts';
import { dropClasses, type DropClass } from './classes.ts';
import * as o from './objects.ts';

/** Where drops are told. */
export interface DropLog {
  /** NFLOG group of this network namespace, 1 to 65535; one program can listen to a group. */
  readonly group: number;
  /** Packets a second of each class, 1 to 1000; as many may come at once. */
  readonly perSecond: number;
}

/** IPv6's header and the ports after it: enough for where a packet was to go, and next to nothing of what it carries. */
const headBytes = 44;

/** `rules` with a jump in front of each drop to a chain that tells of its class, and those chains behind them. A drop does not depend on them. */
export function withLog(rules: readonly ChainRule[], log: DropLog | undefined): readonly ChainRule[] {
  if (log === undefined) return rules;
  const told = new Set<DropClass>();
  const telling = rules.flatMap((rule): readonly ChainRule[] => {
    const [chain, ...expr] = rule;
    const name = dropClasses.map((one) => one.name).find((one) => expr.some((said) => counts(said, one)));
    if (name === undefined) return [rule];
    told.add(name);
    return [[chain, ...expr.slice(0, -2), o.jump(chainOf(name))], rule];
  });
  const chains = [...told].map((name): ChainRule => [
    chainOf(name),
    o.atMost(log.perSecond),
    o.log(name, log.group, headBytes),
  ]);
  return [...telling, ...chains];
}

function counts(statement: o.Statement, name: DropClass): boolean {
  return JSON.stringify(statement) === JSON.stringify(o.count(name));
}

function chainOf(name: DropClass): string {
  return `log_${name}`;
}
