// Every series the proxy can show: its name, its labels with all their values, and what it means. docs/metrics.md is made from it.
import { failureCodes, type Mode, reasons } from '../../policy/index.ts';
import type { Enforcement } from '../config-types.ts';
import type { Stage } from '../errors.ts';
import { dnsAnswers } from '../steer/answer.ts';
import { floodKinds } from './flood.ts';

/** One metric. `labels` lists each label's closed set; the word `any` marks a value that changes but is one series at a time. */
export interface MetricRow {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: Readonly<Record<string, readonly string[] | 'any'>>;
  /** Upper bounds of a histogram's buckets, in its unit. */
  readonly buckets?: readonly number[];
  readonly help: string;
}

/** Modes a client can ask in: the `mode` label. */
export const modes = keys({
  connect: true,
  socks5: true,
  http: true,
  service: true,
  transparent: true,
} satisfies Record<Mode, true>);

/** Steps of a tunnel's life: the `stage` label. */
export const stages = keys({
  accept: true,
  head: true,
  decide: true,
  resolve: true,
  grant: true,
  audit: true,
  dial: true,
  accept_reply: true,
  sniff: true,
  relay: true,
} satisfies Record<Stage, true>);

export const enforcements = keys({ fence: true, env: true, sidecar: true } satisfies Record<
  Enforcement,
  true
>);

/**
 * Why the kernel dropped a packet: the `class` label. The fence is another folder that this one may not import;
 * a test holds the two lists equal.
 */
export const dropClasses = [
  'direct',
  'dns',
  'udp',
  'icmp',
  'ipv6',
  'spoof',
  'host',
  'lateral',
  'metadata',
  'multicast',
  'other',
  'forward',
  'inbound',
  'layer2',
] as const;

export type DropClass = (typeof dropClasses)[number];

/** What the runner read from the kernel. `drops` are the kernel's own absolute counters. */
export interface FenceReport {
  readonly ok: boolean;
  /** What differs from the fence that was asked for, in words; empty when it holds. */
  readonly problems: readonly string[];
  readonly drops: Readonly<Partial<Record<DropClass, number>>>;
  /** How often the watch has put the fence back so far. */
  readonly repairs: number;
}

/** `silent`: its event loop stands still. `stopped`: it ended and is to be replaced. */
export const workerStates = ['starting', 'ready', 'silent', 'stopped'] as const;

export type WorkerState = (typeof workerStates)[number];

/** How a probe of the launch gate came out: the `result` label. */
export const gateResults = ['passed', 'failed', 'not_tried'] as const;

/** What the runner found when it tried the boundary from inside. `time` is Unix time in seconds. */
export interface GateReport {
  readonly passed: number;
  readonly failed: number;
  readonly notTried: number;
  readonly time: number;
}

const verdicts = ['allow', 'deny'];
const directions = ['up', 'down'];
const reasonNames = reasons.map(({ name }) => name);
const failureNames = failureCodes.map(({ name }) => name);
const stageBuckets = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30];
const tunnelBuckets = [0.1, 1, 5, 30, 60, 300, 1800, 7200, 43_200];

/** One row a metric. The prefix `sallyport_` is part of the name. */
export const metricTable: readonly MetricRow[] = [
  metric('sallyport_decisions_total', 'counter', 'Verdicts, by reason and by the way the client asked.', {
    verdict: verdicts,
    reason: reasonNames,
    mode: modes,
  }),
  metric(
    'sallyport_failures_total',
    'counter',
    'Clients that ended because the world failed: never a verdict.',
    {
      code: failureNames,
    },
  ),
  metric(
    'sallyport_clients_unrecorded_total',
    'counter',
    'Clients and names in a flood that the audit has no line of: above the connection rate, gone before they asked, or denied names.',
    {
      kind: floodKinds,
    },
  ),
  metric(
    'sallyport_dns_answers_total',
    'counter',
    'Questions to the DNS stub, by how it ended them; it asks nobody itself.',
    {
      answer: dnsAnswers,
    },
  ),
  metric('sallyport_tunnels_open', 'gauge', 'Tunnels that carry bytes now.'),
  metric('sallyport_tunnel_seconds', 'histogram', 'How long tunnels were open.', {}, tunnelBuckets),
  metric(
    'sallyport_bytes_total',
    'counter',
    'Payload bytes through tunnels; up is from the client to upstream.',
    {
      direction: directions,
    },
  ),
  metric(
    'sallyport_stage_seconds',
    'histogram',
    'Time spent in each step of a tunnel; sniff is the wait for the TLS hello.',
    { stage: stages },
    stageBuckets,
  ),
  metric('sallyport_policy_info', 'gauge', 'Always 1; its label is the digest of the policy in force.', {
    digest: 'any',
  }),
  metric(
    'sallyport_policy_reload_failures_total',
    'counter',
    'Reloads that failed; the last good policy stayed.',
  ),
  metric('sallyport_policy_reload_failed', 'gauge', '1 while the last reload failed, else 0.'),
  metric('sallyport_policy_age_seconds', 'gauge', 'Time since the policy in force was loaded.'),
  metric(
    'sallyport_fence_drops_total',
    'counter',
    'Packets the kernel dropped, as last reported by the watch; stays 0 without a fence.',
    { class: dropClasses },
  ),
  metric('sallyport_fence_ok', 'gauge', '1 when the watch last found the kernel fence as planned, else 0.'),
  metric(
    'sallyport_fence_breaks_total',
    'counter',
    'Times the fence was found not as planned; each cut every tunnel.',
  ),
  metric('sallyport_fence_repairs_total', 'counter', 'Times the watch put the fence back.'),
  metric(
    'sallyport_gate_probes_total',
    'counter',
    'Probes of the boundary from inside the sandbox: at the launch, and by `sallyport probe`.',
    { result: gateResults },
  ),
  metric(
    'sallyport_gate_time_seconds',
    'gauge',
    'When the boundary was last tried from inside, as Unix time; 0 when never.',
  ),
  metric(
    'sallyport_audit_dropped_total',
    'counter',
    'Lines of closes, names and drops that were lost because the audit could not be written.',
  ),
  metric('sallyport_audit_ok', 'gauge', '1 while the audit can be written, else 0: then nobody is let out.'),
  metric(
    'sallyport_enforcement',
    'gauge',
    '1 for what keeps clients on this proxy: kernel fence, environment only, or the pod.',
    {
      mode: enforcements,
    },
  ),
  metric('sallyport_bugs_total', 'counter', 'Assertions that failed; each severed one tunnel.', {
    stage: stages,
  }),
  metric(
    'sallyport_accept_failures_total',
    'counter',
    'Times that clients were turned away because this machine had nothing to accept them with, such as a descriptor.',
  ),
  metric('sallyport_workers', 'gauge', 'Worker processes, by state; all 0 without --workers.', {
    state: workerStates,
  }),
  metric('sallyport_worker_restarts_total', 'counter', 'Workers that ended by themselves and were replaced.'),
  metric('sallyport_build_info', 'gauge', 'Always 1; its labels are the build.', {
    version: 'any',
    relay: 'any',
    node: 'any',
  }),
];

/** The row called `name`; asking for another is a bug. */
export function metricRow(name: string): MetricRow {
  const found = metricTable.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no metric is called ${name}`);
  return found;
}

function metric(
  name: string,
  type: MetricRow['type'],
  help: string,
  labels: MetricRow['labels'] = {},
  buckets?: readonly number[],
): MetricRow {
  return { name, type, help, labels, ...(buckets === undefined ? {} : { buckets }) };
}

function keys<Key extends string>(all: Record<Key, true>): readonly Key[] {
  return Object.keys(all).filter((key): key is Key => key in all);
}
