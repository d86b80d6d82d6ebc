// The parts behind the admin socket and the metrics, with facts that a test sets. Opens a real audit; carries no bytes.
import { join } from 'node:path';
import type { Test } from 'tap';
import type { AdminParts } from '../../proxy/admin.ts';
import {
  type Audit,
  createAudit,
  createMetrics,
  type Metrics,
  type PolicyFacts,
} from '../../proxy/observe/index.ts';

export interface PartsFacts {
  policy: PolicyFacts;
  isDraining: boolean;
  reloads: number;
  readonly severed: string[];
}

export interface TestParts extends AdminParts {
  readonly audit: Audit;
  readonly auditFile: string;
  readonly metrics: Metrics;
  /** Change these, then ask. */
  readonly facts: PartsFacts;
}

export const digest = 'a'.repeat(64);

export function createTestParts(t: Test): TestParts {
  const policy: PolicyFacts = {
    digest,
    loadedAt: 1_000_000,
    ageMs: 0,
    lastAttempt: 'ok',
    lastError: null,
    failures: 0,
  };
  const facts: PartsFacts = { policy, isDraining: false, reloads: 0, severed: [] };
  const auditFile = join(t.testdir({ logs: {} }), 'logs', 'audit.jsonl');
  const audit = createAudit(auditFile);
  t.teardown(() => audit.close());
  const metrics = createMetrics({
    build: { version: '0.0.0', relay: 'javascript', node: process.version },
    enforcement: 'fence',
    policy: () => facts.policy,
    audit: () => audit.state,
  });
  const store: AdminParts['store'] = {
    get current() {
      return { digest: facts.policy.digest, text: '{"version": 1}\n' };
    },
    get state() {
      return facts.policy;
    },
    reload: async () => await Promise.resolve((facts.reloads += 1)),
  };
  const table: AdminParts['table'] = {
    list: () => [{ id: 'one', host: 'a.example.com' }],
    size: 1,
    severAll: (reason) => facts.severed.push(reason),
  };
  const unserved = (): readonly string[] => ['port 1'];
  return { facts, audit, auditFile, metrics, store, unserved, table, isDraining: () => facts.isDraining };
}
