// Makes a real Grant for loopback addresses, by way of all that a run's own service goes through. Forges nothing.
import { decide, grant, parsePolicy, parseTarget, withServices, type Grant } from '../../policy/index.ts';
import { addressOf } from './address.ts';

/** Leave to open one tunnel to `port` at these loopback addresses. */
export function loopbackGrant(port: number, ...addresses: readonly string[]): Grant {
  const service = {
    id: 'service/local',
    name: 'local',
    host: 'local.test',
    port,
    reason: 'test',
    loopback: true,
  };
  const policy = withServices(parsePolicy('{"version":1}'), [service]);
  const request = {
    principal: { name: 'test' },
    target: parseTarget(`local.test:${port}`),
    mode: 'service',
    service: 'local',
  } as const;
  const leave = grant(policy, request, decide(policy, request), addresses.map(addressOf), []);
  if ('verdict' in leave) throw new Error(`no grant: ${leave.reason} ${leave.detail}`);
  return leave;
}
