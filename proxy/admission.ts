// Would a policy admit this tunnel as it stands? All three gates again, on the facts of the first time. Cuts nothing.
import { confirm, decide, grant, type Address, type Policy } from '../policy/index.ts';
import type { Tunnel } from './tunnel.ts';

/** True when `policy` would let `tunnel` come as far as it is: its name, every address it was judged by, its hello. */
export function admits(policy: Policy, tunnel: Tunnel, own: readonly Address[]): boolean {
  const { request } = tunnel;
  // It has not asked yet: when it does, the policy of that moment decides. Or it is over already.
  if (request === undefined || tunnel.state === 'ending') return true;
  const decision = decide(policy, request);
  if (decision.verdict === 'deny') return false;
  if (tunnel.grant === undefined) return true;
  const again = grant(policy, request, decision, tunnel.grant.addresses, own);
  if ('verdict' in again) return false;
  return tunnel.hello === undefined || confirm(again, tunnel.hello).verdict === 'allow';
}
