// The launch gate's judgement: whatever single signal is false, nothing is run. The probes themselves are tried in test/kernel.
import t from 'tap';
import { judgeGate, probeCount, type GateSignals, type WallSignal } from '../../container/gate-judge.ts';
import { wallsOf } from '../../container/gate-walls.ts';
import type { ProbeAnswer } from '../../container/probe-child.ts';
import { RunRefused } from '../../container/refusal.ts';
import { slotAt } from '../../container/slot.ts';

const replied = (reply: string): ProbeAnswer => ({ id: 'x', outcome: 'replied', reply });
const refusal = (status: number, reason: string, run = 'r1'): ProbeAnswer =>
  replied(`HTTP/1.1 ${status} Said\r\nSallyport-Reason: ${reason}\r\n\r\n{"run":"${run}"}`);
const established = replied('HTTP/1.1 200 Connection Established\r\n\r\n');
const kernelError: ProbeAnswer = { id: 'x', outcome: 'error', error: 'ECONNREFUSED' };
const connected: ProbeAnswer = { id: 'x', outcome: 'connected' };

const walls = wallsOf(slotAt(7), 4000).map((wall): WallSignal => ({
  wall,
  tried: true,
  unrouted: wall.isRouted ? 'ENETUNREACH' : '',
  leak: '',
  rose: true,
}));

/** What a whole boundary shows. */
const whole: GateSignals = {
  run: 'r1',
  canary: { host: 'gate-r1.invalid', answer: refusal(403, 'no_rule_matched') },
  allowed: { target: 'a.example:443', answer: established, isAdmitted: false },
  walls,
  listenerTouches: 1,
  left: { routes: [], isIpv6Off: true },
};

/** The names of the probes that fail; empty when the gate passes. */
function failedProbes(signals: GateSignals): readonly string[] {
  try {
    judgeGate(signals);
    return [];
  } catch (error) {
    if (!(error instanceof RunRefused && error.exitCode === 69 && error.help !== '')) throw error;
    return [...error.message.matchAll(/^ {2}FAIL {2}(.+?) {2}/gm)].map(([, name = '']) => name);
  }
}

const canary = (answer: ProbeAnswer | undefined): GateSignals => ({
  ...whole,
  canary: { ...whole.canary, answer },
});
const allowed = (answer: ProbeAnswer | undefined, isAdmitted = false): GateSignals => ({
  ...whole,
  allowed: { target: 'a.example:443', answer, isAdmitted },
});
const wallWith = (name: string, change: Partial<WallSignal>): GateSignals => ({
  ...whole,
  walls: walls.map((one) => (one.wall.name === name ? { ...one, ...change } : one)),
});

t.test('a whole boundary passes: every probe was tried and every one is counted', async (t) => {
  const results = judgeGate(whole);
  t.ok(results.every(({ ok, tried }) => ok && tried));
  t.equal(probeCount(results), `${walls.length + 4} probes passed`);
});

t.test('each false answer about the name that no policy lists refuses the run with 69', async (t) => {
  const both = ['proxy reachable', 'denied name refused'];
  const one = ['denied name refused'];
  t.same(failedProbes(canary(established)), one, '200: it was let out');
  t.same(failedProbes(canary(refusal(403, 'no_rule_matched', 'r2'))), one, 'signed by another run');
  t.same(failedProbes(canary(refusal(403, 'no_rule_matched', ''))), one, 'signed by nobody');
  t.same(failedProbes(canary(refusal(403, 'principal_unknown'))), one, 'refused for another reason');
  t.same(failedProbes(canary(refusal(502, 'dns_failed'))), one, 'failed after a verdict of allow');
  t.same(failedProbes(canary(refusal(200, 'no_rule_matched'))), one, 'the right words with 200');
  t.same(failedProbes(canary(replied('HTTP/1.1 403 Forbidden\r\n\r\n"run":"r1"'))), one, 'a 403 of others');
  t.same(failedProbes(canary(replied('SSH-2.0-OpenSSH'))), one, 'an answer that is not HTTP');
  t.same(failedProbes(canary(connected)), both, 'a connection without a word');
  t.same(failedProbes(canary(kernelError)), both, 'no proxy');
  t.same(failedProbes(canary(undefined)), both, 'no answer');
});

t.test('an allowed name must be admitted, by its answer or by the table of tunnels', async (t) => {
  const one = ['allowed name admitted'];
  t.same(failedProbes(allowed(undefined, true)), [], 'on its way');
  t.same(failedProbes(allowed(refusal(502, 'dns_failed'))), [], 'the world failed, the proxy said yes');
  t.same(failedProbes(allowed(undefined)), one, 'no answer');
  t.same(failedProbes(allowed(refusal(403, 'no_rule_matched'))), one, 'denied');
  t.same(failedProbes(allowed(refusal(403, 'no_rule_matched'), true)), one, 'denied after all');
  t.same(failedProbes(allowed(refusal(503, 'audit_unavailable'))), one, 'no audit');
  t.same(failedProbes(allowed(kernelError)), one, 'no proxy');
});

t.test(
  'every wall refuses the run when its counter is silent, when it leaks, or when a route is there',
  async (t) => {
    for (const { wall } of walls) {
      const one = [`no ${wall.name}`];
      t.same(failedProbes(wallWith(wall.name, { rose: false })), one, `${wall.name}: counter silent`);
      t.same(failedProbes(wallWith(wall.name, { leak: 'connected' })), one, `${wall.name}: got through`);
      const without = { ...whole, walls: walls.filter((other) => other.wall.name !== wall.name) };
      t.same(failedProbes(without), one, `${wall.name}: not looked at`);
      if (!wall.isRouted) continue;
      t.same(
        failedProbes(wallWith(wall.name, { unrouted: '' })),
        one,
        `${wall.name}: the kernel said nothing`,
      );
      // A packet that was refused by somebody has been sent.
      t.same(failedProbes(wallWith(wall.name, { unrouted: 'ECONNREFUSED' })), one, `${wall.name}: answered`);
    }
    t.same(failedProbes({ ...whole, walls: [] }).length, walls.length, 'no wall at all');
  },
);

t.test('a host listener that was heard, or that is deaf to the host itself, proves nothing', async (t) => {
  t.same(failedProbes({ ...whole, listenerTouches: 2 }), ['no host port']);
  t.same(failedProbes({ ...whole, listenerTouches: 0 }), ['no host port']);
});

t.test('a route or IPv6 that is still there after the probes refuses the run', async (t) => {
  const one = ['no route, no IPv6'];
  t.same(failedProbes({ ...whole, left: { routes: ['default via 10.219.0.1'], isIpv6Off: true } }), one);
  t.same(failedProbes({ ...whole, left: { routes: [], isIpv6Off: false } }), one);
});

t.test('what was not tried is not counted as passed', async (t) => {
  const none = judgeGate({ ...whole, allowed: null });
  t.equal(probeCount(none), `${walls.length + 3} probes passed, 1 not tried`);
  t.match(none, [{ name: 'allowed name admitted', tried: false, signal: /^not tried: / }]);
  const noSix = judgeGate(wallWith('IPv6', { tried: false, rose: false, unrouted: '' }));
  t.equal(probeCount(noSix), `${walls.length + 3} probes passed, 1 not tried`);
});
