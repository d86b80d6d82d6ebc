// Counts for Prometheus, in a registry of its own. Every child series is made at the start: names from clients cannot make more.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { type FailureCode, failureCodes, type Mode, type Reason, reasons } from '../../policy/index.ts';
import type { Enforcement } from '../config-types.ts';
import type { Stage } from '../errors.ts';
import { type DnsAnswer, dnsAnswers } from '../steer/answer.ts';
import type { AuditState } from './audit-sink.ts';
import { countFence, countGate } from './fence-metrics.ts';
import { type FloodKind, floodKinds } from './flood.ts';
import type { MetricsJson } from './merge-metrics.ts';
import {
  type FenceReport,
  type GateReport,
  metricRow,
  modes,
  stages,
  type WorkerState,
  workerStates,
} from './metric-table.ts';

export interface BuildInfo {
  readonly version: string;
  /** Name of the relay that carries bytes. */
  readonly relay: string;
  /** `process.version`. */
  readonly node: string;
}

/** What the policy store says of itself; PolicyStore.state has this shape. */
export interface PolicyFacts {
  readonly digest: string;
  /** ms since 1970. */
  readonly loadedAt: number;
  /** ms since then, by a clock that does not jump. */
  readonly ageMs: number;
  readonly lastAttempt: 'ok' | 'failed';
  readonly lastError: string | null;
  readonly failures: number;
}

/** What the control plane says of its workers. */
export interface WorkerFacts {
  readonly states: Readonly<Record<WorkerState, number>>;
  readonly restarts: number;
}

/** Read when somebody scrapes, so that nobody has to push. */
export interface MetricSources {
  readonly build: BuildInfo;
  readonly enforcement: Enforcement;
  readonly policy: () => PolicyFacts;
  readonly audit: () => AuditState;
  /** Default: there are none. */
  readonly workers?: () => WorkerFacts;
}

export interface Metrics {
  decision(reason: Reason, mode: Mode): void;
  failure(code: FailureCode): void;
  unrecorded(kind: FloodKind): void;
  answered(answer: DnsAnswer): void;
  stage(stage: Stage, seconds: number): void;
  bytes(direction: 'up' | 'down', count: number): void;
  tunnelOpened(): void;
  tunnelClosed(seconds: number): void;
  bug(stage: Stage): void;
  acceptFailed(): void;
  fence(report: FenceReport): void;
  /** Everything as plain data, for another process to merge. */
  json(): Promise<MetricsJson>;
  gate(report: GateReport): void;
  /** The Prometheus text format. */
  text(): Promise<string>;
  readonly contentType: string;
}

/** Metrics of one proxy. Nothing is global: two proxies in one process have two of these. */
export function createMetrics(sources: MetricSources): Metrics {
  const registry = new Registry();
  addProcessMetrics(registry);
  addSources(registry, sources);
  const decisions = decisionCounters(registry);
  const failures = children(
    counter(registry, 'sallyport_failures_total'),
    'code',
    failureCodes.map((row) => row.name),
  );
  const unrecorded = children(counter(registry, 'sallyport_clients_unrecorded_total'), 'kind', floodKinds);
  const answers = children(counter(registry, 'sallyport_dns_answers_total'), 'answer', dnsAnswers);
  const bugs = children(counter(registry, 'sallyport_bugs_total'), 'stage', stages);
  const acceptFailures = counter(registry, 'sallyport_accept_failures_total');
  const timings = stageTimers(registry);
  const bytes = children(counter(registry, 'sallyport_bytes_total'), 'direction', ['up', 'down']);
  const open = gauge(registry, 'sallyport_tunnels_open');
  const lives = histogram(registry, 'sallyport_tunnel_seconds');
  return {
    decision: (reason, mode) => decisions.get(`${reason} ${mode}`)?.inc(),
    failure: (code) => failures.get(code)?.inc(),
    unrecorded: (kind) => unrecorded.get(kind)?.inc(),
    answered: (answer) => answers.get(answer)?.inc(),
    stage: (stage, seconds) => timings.get(stage)?.observe(seconds),
    bytes: (direction, count) => bytes.get(direction)?.inc(count),
    tunnelOpened: () => open.inc(),
    tunnelClosed(seconds) {
      open.dec();
      lives.observe(seconds);
    },
    bug: (stage) => bugs.get(stage)?.inc(),
    acceptFailed: () => acceptFailures.inc(),
    fence: countFence({
      drops: counter(registry, 'sallyport_fence_drops_total'),
      ok: gauge(registry, 'sallyport_fence_ok'),
      breaks: counter(registry, 'sallyport_fence_breaks_total'),
      repairs: counter(registry, 'sallyport_fence_repairs_total'),
    }),
    json: async () => await registry.getMetricsAsJSON(),
    gate: countGate(
      counter(registry, 'sallyport_gate_probes_total'),
      gauge(registry, 'sallyport_gate_time_seconds'),
    ),
    text: async () => await registry.metrics(),
    contentType: registry.contentType,
  };
}

/** prom-client's usual ones, without those whose names its own linter refuses (a gauge may not end in _total). */
function addProcessMetrics(register: Registry): void {
  collectDefaultMetrics({ register });
  for (const what of ['handles', 'requests', 'resources'])
    register.removeSingleMetric(`nodejs_active_${what}_total`);
}

const noWorkers = { states: { starting: 0, ready: 0, silent: 0, stopped: 0 }, restarts: 0 } as const;

function addSources(registry: Registry, sources: MetricSources): void {
  const { build, enforcement, policy, audit, workers = () => noWorkers } = sources;
  gauge(registry, 'sallyport_build_info').set({ ...build }, 1);
  const enforced = gauge(registry, 'sallyport_enforcement');
  for (const mode of labelValues('sallyport_enforcement', 'mode'))
    enforced.set({ mode }, mode === enforcement ? 1 : 0);
  gauge(registry, 'sallyport_policy_info', (self) => {
    self.reset();
    self.set({ digest: policy().digest }, 1);
  });
  counter(registry, 'sallyport_policy_reload_failures_total', (self) => setCounter(self, policy().failures));
  gauge(registry, 'sallyport_policy_reload_failed', (self) =>
    self.set(policy().lastAttempt === 'failed' ? 1 : 0),
  );
  gauge(registry, 'sallyport_policy_age_seconds', (self) => self.set(policy().ageMs / 1000));
  counter(registry, 'sallyport_audit_dropped_total', (self) => setCounter(self, audit().dropped));
  gauge(registry, 'sallyport_audit_ok', (self) => self.set(audit().ok ? 1 : 0));
  gauge(registry, 'sallyport_workers', (self) => {
    for (const state of workerStates) self.set({ state }, workers().states[state]);
  });
  counter(registry, 'sallyport_worker_restarts_total', (self) => setCounter(self, workers().restarts));
}

function decisionCounters(registry: Registry): ReadonlyMap<string, Counter.Internal> {
  const all = counter(registry, 'sallyport_decisions_total');
  const pairs = reasons.flatMap(({ name, verdict }) =>
    modes.map((mode) => ({ verdict, reason: name, mode })),
  );
  return new Map(pairs.map((labels) => [`${labels.reason} ${labels.mode}`, started(all.labels(labels))]));
}

function stageTimers(registry: Registry): ReadonlyMap<string, Histogram.Internal<string>> {
  const all = histogram(registry, 'sallyport_stage_seconds');
  for (const stage of stages) all.zero({ stage });
  return new Map(stages.map((stage) => [stage, all.labels({ stage })]));
}

function children(
  all: Counter,
  label: string,
  values: readonly string[],
): ReadonlyMap<string, Counter.Internal> {
  return new Map(values.map((value) => [value, started(all.labels({ [label]: value }))]));
}

function started(child: Counter.Internal): Counter.Internal {
  child.inc(0);
  return child;
}

/** For a counter that somebody else keeps. */
function setCounter(self: Counter, value: number): void {
  self.reset();
  self.inc(value);
}

function labelValues(name: string, label: string): readonly string[] {
  const values = metricRow(name).labels[label];
  return values === undefined || values === 'any' ? [] : values;
}

function options(
  registry: Registry,
  name: string,
): { name: string; help: string; labelNames: string[]; registers: Registry[] } {
  const { help, labels } = metricRow(name);
  return { name, help, labelNames: Object.keys(labels), registers: [registry] };
}

function counter(registry: Registry, name: string, collect?: (self: Counter) => void): Counter {
  return new Counter({ ...options(registry, name), ...collector(collect) });
}

function gauge(registry: Registry, name: string, collect?: (self: Gauge) => void): Gauge {
  return new Gauge({ ...options(registry, name), ...collector(collect) });
}

function histogram(registry: Registry, name: string): Histogram {
  const { buckets = [] } = metricRow(name);
  return new Histogram({ ...options(registry, name), buckets: [...buckets] });
}

/** prom-client calls collect() with the metric as `this`. */
function collector<Self>(collect?: (self: Self) => void): { collect?: (this: Self) => void } {
  if (collect === undefined) return {};
  return {
    collect() {
      collect(this);
    },
  };
}
