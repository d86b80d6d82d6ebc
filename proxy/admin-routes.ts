// What the admin socket answers: one row a route. The metrics socket serves the rows that are marked for it and no others.
import { readDropEvents } from './admin-drops.ts';
import type { Enforcement } from './config-types.ts';
import {
  dropClasses,
  type Audit,
  type FenceReport,
  type GateReport,
  type Metrics,
  type PolicyFacts,
} from './observe/index.ts';
import { type ReadinessProblem, readinessProblems } from './readiness.ts';

/** What the routes look at; the proxy's parts fit as they are. */
export interface AdminParts {
  readonly store: {
    /** `text`: the document as JSON. */
    readonly current: { readonly digest: string; readonly text: string };
    readonly state: PolicyFacts;
    reload(): Promise<unknown>;
  };
  /** What the policy in force allows without a port for it, in words. */
  readonly unserved: () => readonly string[];
  readonly table: {
    list(): readonly unknown[] | Promise<readonly unknown[]>;
    readonly size: number;
    /** Cuts every tunnel there is. */
    severAll(reason: 'fence_broken'): unknown;
  };
  readonly audit: Pick<Audit, 'state' | 'reopen' | 'dropped'> & { probe(): unknown };
  readonly metrics: Pick<Metrics, 'fence' | 'gate' | 'text' | 'contentType'>;
  readonly isDraining: () => boolean;
  /** Where other processes carry the clients: how many do so now. */
  readonly workers?: () => { readonly ready: number };
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
    { method: 'GET', path: '/readyz', isPublic: true, answer: async () => await readiness(parts, fence) },
    { method: 'GET', path: '/metrics', isPublic: true, answer: async () => await metrics(parts) },
    { method: 'GET', path: '/policy', isPublic: false, answer: () => policy(parts) },
    { method: 'GET', path: '/tunnels', isPublic: false, answer: async () => await tunnels(parts) },
    { method: 'POST', path: '/reload', isPublic: false, answer: async () => await reload(parts) },
    { method: 'PUT', path: '/fence', isPublic: false, answer: (body) => putFence(parts, fence, body) },
    { method: 'POST', path: '/drops', isPublic: false, answer: (body) => postDrops(parts, body) },
    { method: 'PUT', path: '/gate', isPublic: false, answer: (body) => putGate(parts, body) },
  ];
}

function health({ store }: AdminParts): AdminAnswer {
  return { status: 200, body: { status: 'ok', policy: store.current.digest } };
}

async function readiness(parts: AdminParts, fence: Fence): Promise<AdminAnswer> {
  const { store, audit, isDraining, workers = () => null } = parts;
  await audit.probe();
  const facts = {
    isDraining: isDraining(),
    policy: store.state,
    audit: audit.state,
    isFenced: fence.isExpected,
    fence: fence.report,
    workers: workers(),
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
  const { digest, text } = store.current;
  const facts = JSON.stringify({ digest, loadedAt: new Date(loadedAt), lastAttempt, lastError, failures });
  // The text as it is: a large policy is not built and printed again for one question.
  const body = `${facts.slice(0, -1)},"document":${text}}\n`;
  return { status: 200, body, contentType: 'application/json' };
}

async function tunnels({ table }: AdminParts): Promise<AdminAnswer> {
  const all = await table.list();
  return { status: 200, body: { open: all.length, tunnels: all } };
}

async function reload({ store, audit, unserved }: AdminParts): Promise<AdminAnswer> {
  await store.reload();
  audit.reopen();
  const { lastAttempt, lastError } = store.state;
  const status = lastAttempt === 'ok' ? 200 : 422;
  const body = { status: lastAttempt, error: lastError, policy: store.current.digest, unserved: unserved() };
  return { status, body };
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
  if (!report.ok) parts.table.severAll('fence_broken');
  return { status: 200, body: { status: 'ok' } };
}

function putGate(parts: AdminParts, body: string): AdminAnswer {
  const report = readGateReport(body);
  if (report === undefined) {
    const help = 'give {"passed": 90, "failed": 0, "notTried": 1, "time": 1790000000}';
    return { status: 400, body: { error: 'this is not a gate report', help } };
  }
  parts.metrics.gate(report);
  return { status: 200, body: { status: 'ok' } };
}

function postDrops({ audit }: AdminParts, body: string): AdminAnswer {
  const events = readDropEvents(parseObject(body));
  if (events === undefined) {
    const help =
      'give {"run": "r1", "principal": "r1", "drops": [{"at": 1790000000000, "class": "dns", ...}]}';
    return { status: 400, body: { error: 'these are no drops', help } };
  }
  audit.dropped(...events);
  return { status: 200, body: { status: 'ok' } };
}

/** A report in the exact shape, or undefined. */
function readGateReport(text: string): GateReport | undefined {
  const { passed, failed, notTried, time, ...rest } = parseObject(text) ?? {};
  const isWhole = Object.keys(rest).length === 0 && [passed, failed, notTried].every(isCount);
  if (!isWhole || typeof time !== 'number' || !(time > 0)) return undefined;
  return { passed: Number(passed), failed: Number(failed), notTried: Number(notTried), time };
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
