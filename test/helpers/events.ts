// Events for tests of the record: one of each kind, with what a test wants to differ.
import type { CloseEvent, DecisionEvent } from '../../proxy/observe/index.ts';

const client = {
  time: '2026-11-21T05:00:00.000Z',
  run: 'r00ff00',
  tunnel: 'tunnel-1',
  principal: 'local',
  peer: '127.0.0.1:40000',
  listener: '127.0.0.1:3128',
  mode: 'connect',
  host: 'api.example.com',
  port: 443,
  policy: '0'.repeat(64),
} as const;

export function decisionEvent(differs: Partial<DecisionEvent> = {}): DecisionEvent {
  return {
    ...client,
    event: 'decision',
    verdict: 'allow',
    reason: 'rule_matched',
    rule: 'allow/api.example.com',
    group: null,
    addresses: ['93.184.215.14'],
    detail: null,
    ...differs,
  };
}

export function closeEvent(differs: Partial<CloseEvent> = {}): CloseEvent {
  return {
    ...client,
    event: 'close',
    verdict: 'allow',
    reason: 'rule_matched',
    cause: 'both_ended',
    address: '93.184.215.14',
    up: 10,
    down: 20,
    ms: { total: 12.3456789, dial: 1 },
    ...differs,
  };
}
