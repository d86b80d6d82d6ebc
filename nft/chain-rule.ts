// One rule with the name of its chain, and the drops that every plan is mostly made of. Not what is dropped: the plans say that.
import type { DropClass } from './classes.ts';
import * as o from './objects.ts';

export type ChainRule = readonly [chain: string, ...expr: readonly o.Statement[]];

/** One rule for each row: what matches is counted in its class and dropped. */
export function drops(
  chain: string,
  rows: readonly (readonly [DropClass, ...o.Match[]])[],
): readonly ChainRule[] {
  return rows.map(([name, ...expr]) => [chain, ...expr, o.count(name), o.drop]);
}
