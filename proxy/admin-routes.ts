// What the admin socket answers: one row a route. The metrics socket serves the rows that are marked for it and no others.
import type { Enforcement } from './config-types.ts';
import {
  dropClasses,
  type Audit,
  type FenceReport,
  type Metrics,
  type PolicyFacts,
} from './observe/index.ts';
import { type ReadinessProblem, readinessProblems } from './readiness.ts';

/** What the routes look at; the proxy's parts fit as they are. */
export interface AdminParts {
  readonly store: {
    readonly current: { readonly digest: string; readonly document: unknown };
    readonly state: PolicyFacts;
    reload(): Promise<unknown>;
  };
  readonly table: {
    list(): readonly unknown[];
    readonly size: number;
    severWhere(pred: () => boolean, reason: 'fence_broken'): number;
  };
  readonly audit: Audit;
  readonly metrics: Metrics;
  readonly isDraining: () => boolean;
}

export interface AdminAnswer {
  readonly status: number;
  /** JSON unless it is a text. */
  readonly body: unknown;
  readonly contentType?: string;
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly path: string;
  /** Also on the TCP socket of --metrics. */
  readonly isPublic: boolean;
  readonly answer: (body: string) => AdminAnswer | Promise<AdminAnswer>;
}

/** What is known of the kernel fence. */
interface Fence {
  readonly isExpected: boolean;
  report: FenceReport | null;
}

/** The routes over one proxy's parts. */
export function adminRoutes(parts: AdminParts, enforcement: Enforcement): readonly Route[] {
  const fence: Fence = { isExpected: enforcement === 'fence', report: null };
  return [
    { method: 'GET', path: '/healthz', isPublic: true, answer: () => health(parts) },
    { method: 'GET', path: '/readyz', isPublic: true, answer: () => readiness(parts, fence) },
    { method: 'GET', path: '/metrics', isPublic: true, answer: async () => await metrics(parts) },
    { method: 'GET', path: '/policy', isPublic: false, answer: () => policy(parts) },
    { method: 'GET', path: '/tunnels', isPublic: false, answer: () => tunnels(parts) },
    { method: 'POST', path: '/reload', isPublic: false, answer: async () => await reload(parts) },
    { method: 'PUT', path: '/fence', isPublic: false, answer: (body) => putFence(parts, fence, body) },
  ];
}

function health({ store }: AdminParts): AdminAnswer {
  return { status: 200, body: { status: 'ok', policy: store.current.digest } };
}

function readiness({ store, audit, isDraining }: AdminParts, fence: Fence): AdminAnswer {
  audit.probe();
  const facts = {
    isDraining: isDraining(),
    policy: store.state,
    audit: audit.state,
    isFenced: fence.isExpected,
    fence: fence.report,
  };
  const reasons: readonly ReadinessProblem[] = readinessProblems(facts);
  const isReady = reasons.length === 0;
  const body = { status: isReady ? 'ready' : 'not_ready', reasons, policy: store.current.digest };
  return { status: isReady ? 200 : 503, body };
}

async function metrics(parts: AdminParts): Promise<AdminAnswer> {
  return { status: 200, body: await parts.metrics.text(), contentType: parts.metrics.contentType };
}

function policy({ store }: AdminParts): AdminAnswer {
  const { loadedAt, lastAttempt, lastError, failures } = store.state;
  const { digest, document } = store.current;
  return {
    status: 200,
    body: { digest, loadedAt: new Date(loadedAt), lastAttempt, lastError, failures, document },
  };
}

function tunnels({ table }: AdminParts): AdminAnswer {
  return { status: 200, body: { open: table.size, tunnels: table.list() } };
}

async function reload({ store, audit }: AdminParts): Promise<AdminAnswer> {
  await store.reload();
  audit.reopen();
  const { lastAttempt, lastError } = store.state;
  const status = lastAttempt === 'ok' ? 200 : 422;
  return { status, body: { status: lastAttempt, error: lastError, policy: store.current.digest } };
}

function putFence(parts: AdminParts, fence: Fence, body: string): AdminAnswer {
  const report = readFenceReport(body);
  if (report === undefined) {
    const help = `give {"ok": true, "problems": [], "drops": {"direct": 0}}; classes: ${dropClasses.join(', ')}`;
    return { status: 400, body: { error: 'this is not a fence report', help } };
  }
  fence.report = report;
  parts.metrics.fence(report);
  // Whoever stood outside of the fence for a moment keeps nothing of it.
  if (!report.ok) parts.table.severWhere(() => true, 'fence_broken');
  return { status: 200, body: { status: 'ok' } };
}

const maxProblems = 100;

/** A report in the exact shape, or undefined. */
function readFenceReport(text: string): FenceReport | undefined {
  const value = parseObject(text);
  if (value === undefined) return undefined;
  const { ok, problems, drops, repairs = 0, ...rest } = value;
  if (Object.keys(rest).length > 0 || typeof ok !== 'boolean' || !isTextList(problems)) return undefined;
  const counts = readDrops(drops);
  if (counts === undefined || !isCount(repairs)) return undefined;
  return { ok, problems: problems.slice(0, maxProblems), drops: counts, repairs };
}

function readDrops(drops: unknown): FenceReport['drops'] | undefined {
  if (typeof drops !== 'object' || drops === null) return undefined;
  const given = Object.entries(drops);
  const isRight = given.every(([name, count]) => isDropClass(name) && isCount(count));
  return isRight ? Object.fromEntries(given) : undefined;
}

function isDropClass(name: string): boolean {
  return dropClasses.some((known) => known === name);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
