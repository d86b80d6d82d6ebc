// Holds the required record: what a line is, and that nobody is let out when it cannot be written.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { failureCodes, reasons } from '../../../policy/index.ts';
import schema from '../../../proxy/observe/audit.schema.json' with { type: 'json' };
import { type Audit, AuditUnavailable, createAudit } from '../../../proxy/observe/index.ts';
import { dropClasses, modes } from '../../../proxy/observe/metric-table.ts';
import { assertAuditLines, auditLineProblem } from '../../helpers/audit.ts';
import { closeEvent, decisionEvent } from '../../helpers/events.ts';
import { findProgram } from '../../helpers/needs.ts';

function open(t: Test, file: string): Audit {
  const audit = createAudit(file);
  t.teardown(() => audit.close());
  return audit;
}

function makeFifo(t: Test): string {
  const fifo = join(t.testdir(), 'fifo');
  t.equal(spawnSync(findProgram('mkfifo') ?? 'mkfifo', [fifo]).status, 0);
  return fifo;
}

t.test('a decision is in the file when decided() returns, as one line of the schema', (t) => {
  const file = join(t.testdir(), 'audit.jsonl');
  const audit = open(t, file);
  audit.decided(decisionEvent());
  const [line] = assertAuditLines(t, readFileSync(file, 'utf8'));
  t.match(line, {
    v: 1,
    event: 'decision',
    host: 'api.example.com',
    reason: 'rule_matched',
    addresses: ['93.184.215.14'],
  });
  audit.closed(closeEvent());
  t.match(assertAuditLines(t, readFileSync(file, 'utf8'))[1], {
    event: 'close',
    up: 10,
    ms: { total: 12.346, dial: 1 },
  });
  t.equal(statSync(file).mode & 0o777, 0o600, 'only its owner reads it');
  t.end();
});

t.test('the schema knows exactly the reasons, codes and modes that exist', (t) => {
  const { reason, failure, decision, drop } = schema.definitions;
  t.same([...reason.enum].toSorted(), reasons.map(({ name }) => name).toSorted());
  t.same([...failure.enum].toSorted(), failureCodes.map(({ name }) => name).toSorted());
  t.same([...drop.properties.class.enum].toSorted(), [...dropClasses].toSorted());
  t.same([...decision.properties.mode.enum].toSorted(), [...modes].toSorted());
  t.end();
});

t.test('the schema refuses a line with one field more, one less, or an unknown reason', (t) => {
  const line = { v: 1, ...decisionEvent() };
  t.equal(auditLineProblem(JSON.stringify(line)), undefined);
  t.match(auditLineProblem(JSON.stringify({ ...line, headers: 'x' })), /additional properties/);
  t.match(auditLineProblem(JSON.stringify({ ...line, policy: undefined })), /policy/);
  t.match(auditLineProblem(JSON.stringify({ ...line, reason: 'because' })), /allowed values/);
  t.end();
});

t.test(
  'log injection: no text of a client can start a line, colour a terminal or grow without bound',
  (t) => {
    const file = join(t.testdir(), 'audit.jsonl');
    const audit = open(t, file);
    const hostile = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.constantFrom(
        '\r\n{"v":1}',
        '\u001b[31mred',
        '\u009b31m',
        '\u2028',
        '\u202egnp',
        '\ud800',
        '"\\',
        'x'.repeat(100_000),
      ),
    );
    const event = fc.record({
      host: hostile,
      detail: hostile,
      rule: hostile,
      principal: hostile,
      run: hostile,
    });
    fc.assert(
      fc.property(event, (differs) =>
        audit.decided(decisionEvent({ ...differs, addresses: [differs.host] })),
      ),
      { numRuns: 1000, seed: 1 },
    );
    const written = readFileSync(file, 'utf8');
    t.equal(assertAuditLines(t, written).length, 1000);
    // oxlint-disable-next-line no-control-regex
    t.notMatch(written, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e]/);
    t.ok(Math.max(...written.split('\n').map((line) => line.length)) < 8192, 'lines are capped');
    t.end();
  },
);

t.test('what a caller hangs on to an event never reaches the file', (t) => {
  const file = join(t.testdir(), 'audit.jsonl');
  const audit = open(t, file);
  audit.decided(
    Object.assign(decisionEvent(), { headers: { authorization: 'Bearer secret' }, path: '/?token=secret' }),
  );
  audit.closed(Object.assign(closeEvent(), { ms: Object.assign({ total: 1 }, { url: 'secret' }) }));
  t.notMatch(readFileSync(file, 'utf8'), /secret/);
  t.end();
});

t.test('an audit that cannot be opened stops the start, and says what to do', (t) => {
  const folder = t.testdir();
  const missing = join(folder, 'missing', 'audit.jsonl');
  t.throws(() => createAudit(missing), { code: 'audit_unavailable', message: /ENOENT/, help: /folder/ });
  t.throws(() => createAudit(folder), { code: 'audit_unavailable', message: /EISDIR/ });
  t.end();
});

t.test('a full disk refuses the decision, keeps the close, and both go on when there is room', (t) => {
  const file = join(t.testdir(), 'audit.jsonl');
  symlinkSync('/dev/full', file);
  const audit = open(t, file);
  t.throws(() => audit.decided(decisionEvent({ tunnel: 'refused' })), {
    code: 'audit_unavailable',
    message: /ENOSPC/,
  });
  audit.closed(closeEvent({ tunnel: 'refused', cause: 'failed', reason: 'audit_unavailable' }));
  t.same(audit.state, { ok: false, problem: 'ENOSPC', kept: 1, dropped: 0 });
  t.notOk(audit.probe(), 'not by waiting');
  unlinkSync(file);
  t.ok(audit.probe(), 'as soon as there is room');
  audit.decided(decisionEvent({ tunnel: 'after' }));
  const lines = assertAuditLines(t, readFileSync(file, 'utf8'));
  t.match(lines, [
    { event: 'close', tunnel: 'refused' },
    { event: 'decision', tunnel: 'after' },
  ]);
  t.equal(lines.length, 2);
  t.end();
});

t.test('a torn line is finished before the next one: every line of the record is whole', (t) => {
  const fifo = makeFifo(t);
  const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  t.teardown(() => closeSync(reader));
  const audit = open(t, fifo);
  // Longer than PIPE_BUF: only such a write to a pipe can be cut.
  const addresses = Array.from({ length: 64 }, () => 'x'.repeat(140));
  const written = fillPipe(audit, addresses);
  t.match(audit.state, { ok: false, kept: 1 }, 'the rest of the torn line waits');
  let text = drainPipe(reader);
  t.ok(audit.probe());
  audit.decided(decisionEvent({ tunnel: 'after' }));
  text += drainPipe(reader);
  const tunnels = assertAuditLines(t, text).map(({ tunnel }) => tunnel);
  t.same(tunnels.slice(-2), [`tunnel-${written}`, 'after']);
  t.equal(tunnels.length, written + 2);
  t.end();
});

/** Writes decisions until one is refused; how many were not. */
function fillPipe(audit: Audit, addresses: readonly string[]): number {
  for (let n = 0; n < 1000; n++) {
    try {
      audit.decided(decisionEvent({ tunnel: `tunnel-${n}`, addresses }));
    } catch {
      return n;
    }
  }
  throw new Error('a pipe without a reader never filled');
}

function drainPipe(reader: number): string {
  const buffer = Buffer.alloc(1_048_576);
  return buffer.toString('utf8', 0, readSync(reader, buffer));
}

t.test('a file that was renamed away is opened anew: log rotation needs no signal', (t) => {
  const file = join(t.testdir(), 'audit.jsonl');
  const audit = open(t, file);
  audit.decided(decisionEvent({ tunnel: 'old' }));
  renameSync(file, `${file}.1`);
  audit.decided(decisionEvent({ tunnel: 'new' }));
  t.match(assertAuditLines(t, readFileSync(`${file}.1`, 'utf8')), [{ tunnel: 'old' }]);
  t.match(assertAuditLines(t, readFileSync(file, 'utf8')), [{ tunnel: 'new' }]);
  t.end();
});

t.test(
  'audit sink gone: with its folder deleted nobody is let out, and with the folder back all go on',
  (t) => {
    const folder = join(t.testdir({ logs: {} }), 'logs');
    const file = join(folder, 'audit.jsonl');
    const audit = open(t, file);
    audit.decided(decisionEvent());
    rmSync(folder, { recursive: true });
    t.throws(() => audit.decided(decisionEvent()), AuditUnavailable);
    t.notOk(audit.state.ok);
    mkdirSync(folder);
    audit.decided(decisionEvent());
    t.ok(existsSync(file));
    t.ok(audit.state.ok);
    t.end();
  },
);

t.test('close lines wait up to a bound, then are counted as dropped and never as written', (t) => {
  const folder = join(t.testdir({ logs: {} }), 'logs');
  const audit = createAudit(join(folder, 'audit.jsonl'));
  rmSync(folder, { recursive: true });
  for (let n = 0; n < 5000; n++) audit.closed(closeEvent({ tunnel: `tunnel-${n}` }));
  const { kept, dropped } = audit.state;
  t.equal(kept + dropped, 5000);
  t.ok(kept > 1000 && dropped > 1000, `${kept} kept, ${dropped} dropped`);
  audit.close();
  t.match(audit.state, { kept: 0, dropped: 5000 }, 'what was never written is not forgotten');
  t.throws(() => audit.decided(decisionEvent()), AuditUnavailable, 'a closed audit takes nothing');
  t.end();
});

const writer = `
  import { createAudit } from '${join(import.meta.dirname, '../../../proxy/observe/index.ts')}'
  import { decisionEvent } from '${join(import.meta.dirname, '../../helpers/events.ts')}'
  const audit = createAudit('-')
  let written = 0
  process.on('message', () => {
    try {
      for (let n = 0; n < 2000; n++) { audit.decided(decisionEvent()); written++ }
      process.send({ written, ok: true })
    } catch (error) { process.send({ written, ok: false, code: error.code, state: audit.state }) }
  })
  process.on('disconnect', () => process.exit(0))
  process.send('up')
`;

/** A process that audits to its stdout, a pipe. Each ask() makes it write up to 2000 decisions. */
function startWriter(t: Test) {
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', writer], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const answer = async () =>
    (await once(child, 'message'))[0] as { written: number; ok: boolean; code?: string };
  const ask = async () => {
    const answered = answer();
    child.send('go');
    return await answered;
  };
  const { stdout } = child;
  if (stdout === null) throw new Error('its stdout is a pipe');
  return { child, stdout, up: once(child, 'message'), ask };
}

t.test(
  'a reader of stdout that stalls refuses decisions instead of stopping the proxy, and loses no line',
  async (t) => {
    const { child, stdout, up, ask } = startWriter(t);
    await up;
    const stalled = await ask();
    t.match(stalled, { ok: false, code: 'audit_unavailable', state: { ok: false } });
    t.match(await ask(), { ok: false, written: stalled.written }, 'still refused, and still answering');
    const read = text(stdout);
    let total = stalled;
    while (!total.ok) total = await ask();
    child.disconnect();
    const lines = assertAuditLines(t, await read);
    t.ok(lines.length >= total.written, 'every accepted decision arrived whole');
  },
);

t.test('a reader of stdout that is gone refuses decisions', async (t) => {
  const { stdout, up, ask } = startWriter(t);
  await up;
  stdout.destroy();
  await once(stdout, 'close');
  t.match(await ask(), { ok: false, written: 0, code: 'audit_unavailable' });
});

t.test('a FIFO without a reader is an error at the start, not a hang', (t) => {
  const fifo = makeFifo(t);
  t.throws(() => createAudit(fifo), { code: 'audit_unavailable', message: /ENXIO/ });
  t.end();
});
