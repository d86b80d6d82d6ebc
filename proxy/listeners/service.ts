// The door of one named service: every connection to this port asks for that service, and for nothing else. Reads no byte.
import { targetOf, type Policy } from '../../policy/index.ts';
import type { Conn } from '../conn/index.ts';
import type { NamedPlace } from '../service-places.ts';
import type { Door, Inbound, Refusal } from '../types.ts';

/** `service` is as it was when the port was opened; the policy of the moment says where it leads, or that it is gone. */
export function serviceDoor(service: NamedPlace, policy: () => Policy): Door {
  return {
    mode: 'service',
    async receive(client, { principal }) {
      const now = policy().services.get(service.name) ?? service;
      return inboundOf(client, { principal, target: targetOf(now), mode: 'service', service: service.name });
    },
  };
}

function inboundOf(client: Conn, request: Inbound['request']): Inbound {
  return {
    request,
    client,
    // The client spoke no protocol of ours: there is nobody to tell.
    accept() {},
    refuse: (_why: Refusal) => client.reset(),
  };
}
