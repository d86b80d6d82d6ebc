// Joins the metrics of several processes into one page, as if there were one process. Counts nothing itself.
import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue } from 'prom-client';

/** A registry as plain data. */
export type MetricsJson = MetricObjectWithValues<MetricValue<string>>[];

/** What the control plane alone knows: its own value stands, whatever a worker says. */
const ofControl = new Set([
  'sallyport_policy_info',
  'sallyport_policy_reload_failures_total',
  'sallyport_policy_reload_failed',
  'sallyport_policy_age_seconds',
  'sallyport_fence_drops_total',
  'sallyport_fence_ok',
  'sallyport_audit_ok',
  'sallyport_audit_dropped_total',
  'sallyport_enforcement',
  'sallyport_workers',
  'sallyport_worker_restarts_total',
  'sallyport_build_info',
  'process_start_time_seconds',
  'process_max_fds',
  'nodejs_version_info',
]);

/**
 * One Prometheus page: `control` and `workers` together. What one process alone can know is the control plane's; of the event loops'
 * delays prom-client says how they merge; everything else is the sum.
 */
export async function mergeMetrics(control: MetricsJson, workers: readonly MetricsJson[]): Promise<string> {
  const shared = workers.map((all) => all.filter(({ name }) => !ofControl.has(name)));
  return await AggregatorRegistry.aggregate([control.map(standing), ...shared]).metrics();
}

/** What is in no worker stands as it is; prom-client would leave some of it out of a sum. */
function standing(metric: MetricsJson[number]): MetricsJson[number] {
  return ofControl.has(metric.name) ? { ...metric, aggregator: 'first' } : metric;
}

/** What `ended` had counted in all, added to `before`: the counters of a process outlive it, its gauges do not. */
export async function withoutGauges(before: MetricsJson, ended: MetricsJson): Promise<MetricsJson> {
  const counted = ended.filter(
    // A word at run time, a number in prom-client's types.
    ({ name, type }) => String(type) !== 'gauge' && !ofControl.has(name),
  );
  return await AggregatorRegistry.aggregate([before, counted]).getMetricsAsJSON();
}
