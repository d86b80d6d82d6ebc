// Holds the shared board to one process's limits, in one process and with several that are killed, and the ledger on it to one close per tunnel.
import { spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { type Acquired, createLimits } from '../../../proxy/limits.ts';
import { createAudit } from '../../../proxy/observe/index.ts';
import { loadWorkersAddon, type WorkersAddon } from '../../../proxy/workers/addon.ts';
import { boardLimits } from '../../../proxy/workers/board-limits.ts';
import { Board, boardShape, createBoardMemory } from '../../../proxy/workers/board.ts';
import { bury } from '../../../proxy/workers/burial.ts';
import { ledgerAudit } from '../../../proxy/workers/ledger.ts';
import { countWorkers } from '../../../proxy/workers/start.ts';
import { assertAuditLines } from '../../helpers/audit.ts';
import { closeEvent, decisionEvent } from '../../helpers/events.ts';
import { assertHolds } from '../../helpers/fuzz.ts';
import { needs } from '../../helpers/needs.ts';
import { testSettings } from '../../helpers/proxy.ts';

const loaded = loadWorkersAddon();
const skip = 'problem' in loaded && `the native part: ${loaded.problem}`;
const settings = { ...testSettings, policy: '-', maxTunnels: 5, maxTunnelsPerPrincipal: 3 };
const principals = ['a', 'b'].map((name) => ({ name, source: '127.0.0.1/32', listen: null }));

function addonOr(): WorkersAddon {
  if ('problem' in loaded) throw new Error(loaded.problem);
  return loaded;
}

/** A board of its own; `clock` in ns instead of the machine's. */
function boardFor(some: typeof settings, clock?: () => number): Board {
  const addon = clock === undefined ? addonOr() : { ...addonOr(), clock };
  const shape = boardShape(3, some);
  return new Board(addon, createBoardMemory(addon, shape), shape);
}

t.test(
  'processes that race for the last place, and 200 of them killed at any instruction, leave nothing behind',
  { skip: needs(t, ['cc']) },
  async (t) => {
    const root = join(import.meta.dirname, '../../..');
    const driver = join(t.testdir(), 'driver');
    const sources = ['test/proxy/workers/driver.c', 'proxy/workers/board.c'];
    const flags = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Wconversion', '-Werror', '-pthread'];
    const built = spawnSync('cc', [...flags, ...sources, '-o', driver], { cwd: root, encoding: 'utf8' });
    t.match(built, { status: 0 }, built.stderr);
    t.match(spawnSync(driver, ['1'], { encoding: 'utf8' }), { status: 0, stdout: '' });
  },
);

type Step = readonly [what: 'acquire' | 'release' | 'wait', who: number, worker: number];

const step: fc.Arbitrary<Step> = fc.tuple(
  fc.constantFrom('acquire', 'acquire', 'release', 'wait'),
  fc.nat(40),
  fc.nat(2),
);

t.test('three workers on a board admit whom one process would admit', { skip }, async (t) => {
  await assertHolds(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      // Rates that make whole milliseconds exact in both ways of counting.
      fc.constantFrom(1000, 500, 250, 125),
      fc.integer({ min: 1, max: 6 }),
      (steps, connectionsPerSecond, connectionBurst) => {
        const time = { ms: 10 };
        const all = { ...settings, principals, connectionsPerSecond, connectionBurst };
        const board = boardFor(all, () => time.ms * 1e6);
        const shared = [0, 1, 2].map((worker) => boardLimits(board, worker, all).limits);
        const one = createLimits({
          ...all,
          maxConnectionsPerSecond: connectionsPerSecond,
          burst: connectionBurst,
          now: () => time.ms,
        });
        const held: Acquired[][] = [];
        for (const [what, who, worker] of steps) {
          if (what === 'wait') time.ms += who;
          if (what === 'release')
            for (const place of held.splice(who, 1).flat()) if (place.ok) place.release();
          if (what !== 'acquire') continue;
          const name = ['a', 'b', 'local', ''][who % 4] ?? '';
          const pair = [one.acquire(name), shared[worker]?.acquire(name)].filter((it) => it !== undefined);
          const [own, theirs] = pair.map((it) => (it.ok ? 'ok' : it.reason));
          if (own !== theirs) throw new Error(`one process says ${own}, the board ${theirs}`);
          held.push(pair);
        }
        return one.open === shared[0]?.open;
      },
    ),
    300,
  );
  t.pass();
});

interface Dying {
  readonly file: string;
  readonly board: Board;
  readonly audit: ReturnType<typeof ledgerAudit>;
  readonly bury: () => number;
}

/** Worker 1, whose audit is a real file, and the parent that comes after it. */
function dyingWorker(t: Test): Dying {
  const file = join(t.testdir(), 'audit.jsonl');
  const board = boardFor(settings);
  const [own, parent] = [createAudit(file), createAudit(file)];
  t.teardown(() => {
    own.close();
    parent.close();
  });
  const parts = { board, audit: parent, settings: { audit: file, run: 'r' }, clock: () => 5000 };
  return { file, board, audit: ledgerAudit(own, board, 1, () => 2000), bury: () => bury(1, parts) };
}

t.test(
  'what a worker has open when it dies is closed on record once, with the bytes known',
  { skip },
  async (t) => {
    const { file, audit, bury: buryIt } = dyingWorker(t);
    for (const tunnel of ['one', 'two', 'three']) audit.decided(decisionEvent({ tunnel }));
    audit.closed(closeEvent({ tunnel: 'two' }));
    audit.count([
      { id: 'one', up: 7, down: 2 ** 40 },
      { id: 'two', up: 1, down: 1 },
    ]);
    t.equal(buryIt(), 2);
    t.equal(buryIt(), 0, 'nobody is buried twice');
    const lines = assertAuditLines(t, readFileSync(file, 'utf8'));
    t.match(
      lines.filter(({ event }) => event === 'close'),
      [
        { tunnel: 'two', cause: closeEvent({}).cause },
        {
          tunnel: 'one',
          cause: 'worker_crashed',
          up: 7,
          down: 2 ** 40,
          ms: { total: 3000 },
          verdict: 'allow',
        },
        { tunnel: 'three', cause: 'worker_crashed', up: 0, down: 0 },
      ],
    );
  },
);

t.test(
  'a worker that dies while it writes a close line: the file says whether it did',
  { skip },
  async (t) => {
    const { file, board, audit, bury: buryIt } = dyingWorker(t);
    for (const tunnel of ['written', 'unwritten']) audit.decided(decisionEvent({ tunnel }));
    const { addon, handle } = board;
    for (const slot of [0, 1]) addon.mark(handle, 1, slot, 3);
    const [line = ''] = readFileSync(file, 'utf8').split('\n');
    const close = JSON.stringify({ event: 'close', tunnel: 'written' });
    appendFileSync(file, `${close}\n`);
    t.equal(buryIt(), 1);
    const after = readFileSync(file, 'utf8').trim().split('\n').slice(3);
    t.match(
      after.map((text): unknown => JSON.parse(text)),
      [{ event: 'close', tunnel: 'unwritten' }],
    );
    t.ok(line.includes('"decision"'));
  },
);

t.test(
  'a worker that dies before its decision is surely on record: the close says no verdict',
  { skip },
  async (t) => {
    const { file, board, audit, bury: buryIt } = dyingWorker(t);
    audit.decided(decisionEvent({ tunnel: 'one' }));
    board.addon.mark(board.handle, 1, 0, 1);
    t.equal(buryIt(), 1);
    t.match(assertAuditLines(t, readFileSync(file, 'utf8')).at(-1), { event: 'close', verdict: null });
  },
);

t.test(
  'slots are used again, a full ledger lets nobody out, and scribble is no tunnel',
  { skip },
  async (t) => {
    const { board, audit, bury: buryIt } = dyingWorker(t);
    for (let n = 0; n < 100; n += 1) {
      audit.decided(decisionEvent({ tunnel: `t${n}` }));
      audit.closed(closeEvent({ tunnel: `t${n}` }));
    }
    t.equal(board.addon.used(board.handle, 1), 1, 'one at a time takes one slot');
    for (let n = 0; n < board.shape.slots; n += 1) audit.decided(decisionEvent({ tunnel: `u${n}` }));
    t.throws(() => audit.decided(decisionEvent({ tunnel: 'v' })), { code: 'audit_unavailable' });
    audit.decided(decisionEvent({ tunnel: 'w', verdict: 'deny', reason: 'no_rule_matched', rule: null }));
    for (const [slot, text] of ['', '{', 'null', '[]', '{"tunnel":1}'].entries())
      board.addon.write(board.handle, 1, slot, text);
    t.equal(buryIt(), board.shape.slots - 5);
    t.equal(board.records(1).length, 0);
  },
);

t.test('what is outside the board is an error, never memory', { skip }, async (t) => {
  const board = boardFor(settings);
  const { addon, handle } = board;
  const wrong = [
    () => addon.take(handle, 3, 0, 0, 1, 1),
    () => addon.take(handle, 0, 3, 0, 1, 1),
    () => addon.give(handle, 0, 0, 99),
    () => addon.give(handle, -1, 0, 0),
    () => addon.pass(handle, Number.NaN, 0, 1, 1),
    () => addon.mark(handle, 0, board.shape.slots, 0),
    () => addon.mark(handle, 0, 0, 4),
    () => addon.read(handle, 0, 0, new Float64Array(2)),
    () => addon.beat(handle, 3),
  ];
  for (const call of wrong) t.throws(call, RangeError);
  t.equal(addon.write(handle, 0, 0, 'x'.repeat(2000)), false);
  t.ok(addon.create(0, 1, 1) < 0 && addon.create(1, 1, 2 ** 31) < 0);
  t.ok(Number(addon.map(0, 1, 1, 1)) < 0, 'a descriptor of something else is no board');
});

t.test(
  'how many workers: what was asked for, or one with a word about it where the native part is missing',
  async (t) => {
    const missing = () => ({ problem: 'it is not built' });
    t.same(countWorkers(1, missing), { count: 1, problem: null });
    t.same(countWorkers('auto', missing).count, 1);
    t.throws(() => countWorkers(2, missing), { name: 'WorkersUnavailable', help: /C compiler/u });
  },
);
