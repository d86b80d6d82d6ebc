// Holds what Prometheus is shown: the names of the design, a closed set of series, and text that its own linter accepts.
import { spawnSync } from 'node:child_process';
import t, { type Test } from 'tap';
import { dropClasses as nftDropClasses } from '../../../nft/index.ts';
import { failureCodes, reasons } from '../../../policy/index.ts';
import {
  createAudit,
  createObserve,
  dropClasses,
  metricsPage,
  type Observe,
} from '../../../proxy/observe/index.ts';
import { metricTable } from '../../../proxy/observe/metric-table.ts';
import { closeEvent, decisionEvent } from '../../helpers/events.ts';
import { findProgram, needs } from '../../helpers/needs.ts';
import { createTestParts, digest } from '../../helpers/parts.ts';

/** Sample lines by `name{labels}`. */
async function samples(text: Promise<string>): Promise<ReadonlyMap<string, number>> {
  const lines = (await text).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

function ours(found: ReadonlyMap<string, number>): readonly string[] {
  return [...found.keys()].filter((name) => name.startsWith('sallyport_'));
}

function observing(t: Test): {
  observe: Observe;
  read: () => Promise<ReadonlyMap<string, number>>;
  bugs: unknown[];
} {
  const { metrics } = createTestParts(t);
  const audit = createAudit('/dev/null');
  t.teardown(() => audit.close());
  const bugs: unknown[] = [];
  const observe = createObserve({ audit, metrics, onBug: (error) => bugs.push(error) });
  return { observe, bugs, read: async () => await samples(metrics.text()) };
}

t.test('promtool accepts every line', { skip: needs(t, ['promtool']) }, async (t) => {
  const { metrics } = createTestParts(t);
  const promtool = findProgram('promtool') ?? 'promtool';
  const said = spawnSync(promtool, ['check', 'metrics'], { input: await metrics.text(), encoding: 'utf8' });
  t.same({ status: said.status, out: said.stdout, err: said.stderr }, { status: 0, out: '', err: '' });
});

t.test('10,000 random host names leave the number of series unchanged', async (t) => {
  const { observe, read } = observing(t);
  const before = ours(await read());
  for (let n = 0; n < 10_000; n++) {
    const host = `h${n}.${Math.random().toString(36).slice(2)}.example`;
    await observe.decided(decisionEvent({ host, verdict: 'deny', reason: 'no_rule_matched', rule: null }));
    observe.closed(closeEvent({ host, reason: 'dns_failed', cause: 'failed', tunnel: `t${n}` }));
  }
  const after = await read();
  t.same(ours(after), before);
  t.equal(
    after.get('sallyport_decisions_total{verdict="deny",reason="no_rule_matched",mode="connect"}'),
    10_000,
  );
  t.equal(after.get('sallyport_failures_total{code="dns_failed"}'), 10_000);
});

t.test('every value of a closed label is there at 0 before anything happened', async (t) => {
  const found = await observing(t).read();
  const wanted = [
    ...reasons.map(
      ({ name, verdict }) => `decisions_total{verdict="${verdict}",reason="${name}",mode="service"}`,
    ),
    ...failureCodes.map(({ name }) => `failures_total{code="${name}"}`),
    ...dropClasses.map((name) => `fence_drops_total{class="${name}"}`),
    'gate_probes_total{result="failed"}',
    'gate_time_seconds',
    'bytes_total{direction="up"}',
    'stage_seconds_count{stage="sniff"}',
    'tunnel_seconds_count',
    'tunnels_open',
    'policy_reload_failures_total',
    'policy_reload_failed',
    'policy_age_seconds',
    'audit_dropped_total',
    'bugs_total{stage="relay"}',
    'fence_ok',
    'enforcement{mode="env"}',
  ];
  t.same(
    wanted.filter((name) => found.get(`sallyport_${name}`) !== 0),
    [],
  );
  t.equal(found.get('sallyport_enforcement{mode="fence"}'), 1);
  t.equal(found.get(`sallyport_policy_info{digest="${digest}"}`), 1);
  t.equal(found.get(`sallyport_build_info{version="0.0.0",relay="javascript",node="${process.version}"}`), 1);
});

t.test('a tunnel counts up and down, its bytes and times, and a bug keeps its stack', async (t) => {
  const { observe, read, bugs } = observing(t);
  observe.tunnelOpened();
  observe.tunnelOpened();
  observe.tunnelClosed(2);
  observe.crossed(5, 0);
  observe.crossed(0, 7);
  observe.stage('sniff', 0.02);
  observe.bug(new Error('assertion'), 'relay');
  const found = await read();
  t.equal(found.get('sallyport_tunnels_open'), 1);
  t.equal(found.get('sallyport_tunnel_seconds_sum'), 2);
  t.equal(found.get('sallyport_bytes_total{direction="up"}'), 5);
  t.equal(found.get('sallyport_bytes_total{direction="down"}'), 7);
  t.equal(found.get('sallyport_stage_seconds_bucket{le="0.05",stage="sniff"}'), 1);
  t.equal(found.get('sallyport_stage_seconds_bucket{le="0.01",stage="sniff"}'), 0);
  t.equal(found.get('sallyport_bugs_total{stage="relay"}'), 1);
  t.match(bugs, [/assertion/]);
});

t.test('a decision that could not be written is not counted as one', async (t) => {
  const parts = createTestParts(t);
  const observe = createObserve({ ...parts, onBug: () => {} });
  parts.audit.close();
  await t.rejects(observe.decided(decisionEvent()), { code: 'audit_unavailable' });
  observe.closed(closeEvent());
  observe.flush();
  const found = await samples(parts.metrics.text());
  t.equal(found.get('sallyport_decisions_total{verdict="allow",reason="rule_matched",mode="connect"}'), 0);
  t.equal(found.get('sallyport_audit_dropped_total'), 1);
  t.equal(found.get('sallyport_audit_ok'), 0);
});

t.test('a failed reload shows, and a new policy replaces the digest instead of adding one', async (t) => {
  const { facts, metrics } = createTestParts(t);
  facts.policy = { ...facts.policy, lastAttempt: 'failed', lastError: 'bad', failures: 2, ageMs: 5000 };
  const failed = await samples(metrics.text());
  t.equal(failed.get('sallyport_policy_reload_failed'), 1);
  t.equal(failed.get('sallyport_policy_reload_failures_total'), 2);
  t.equal(failed.get('sallyport_policy_age_seconds'), 5);
  facts.policy = { ...facts.policy, digest: 'b'.repeat(64), lastAttempt: 'ok' };
  const names = [...(await samples(metrics.text())).keys()].filter((name) =>
    name.startsWith('sallyport_policy_info'),
  );
  t.same(names, [`sallyport_policy_info{digest="${'b'.repeat(64)}"}`]);
});

t.test('kernel drop counters never go back, not even when their table is made anew', async (t) => {
  const { metrics } = createTestParts(t);
  const drops = async (): Promise<unknown> =>
    (await samples(metrics.text())).get('sallyport_fence_drops_total{class="dns"}');
  const report = (dns: number): void => metrics.fence({ ok: true, problems: [], drops: { dns }, repairs: 0 });
  report(3);
  report(5);
  t.equal(await drops(), 5);
  report(2);
  t.equal(await drops(), 7, 'the table was replaced: two since');
  metrics.fence({ ok: false, problems: ['gone'], drops: {}, repairs: 0 });
  metrics.fence({ ok: false, problems: ['gone'], drops: {}, repairs: 1 });
  t.equal(await drops(), 7);
  t.equal((await samples(metrics.text())).get('sallyport_fence_ok'), 0);
  metrics.fence({ ok: true, problems: [], drops: {}, repairs: 1 });
  metrics.fence({ ok: false, problems: ['gone'], drops: {}, repairs: 3 });
  const all = await samples(metrics.text());
  t.equal(all.get('sallyport_fence_breaks_total'), 2, 'one for each time it broke, not for each report');
  t.equal(all.get('sallyport_fence_repairs_total'), 3);
});

t.test('the drop classes are those of the fence, which this folder may not import', (t) => {
  t.same([...dropClasses].toSorted(), nftDropClasses.map(({ name }) => name).toSorted());
  t.end();
});

t.test('the page names every metric and every label value', (t) => {
  const page = metricsPage();
  const missing = metricTable.flatMap(({ name, labels }) =>
    [name, ...Object.values(labels).flatMap((values) => (values === 'any' ? [] : values))].filter(
      (word) => !page.includes(`\`${word}\``),
    ),
  );
  t.same(missing, []);
  t.end();
});
