// Holds that what one turn puts on record is one write, that nobody goes on before it, and that nothing is lost at the end.
import t from 'tap';
import { createBatch } from '../../../proxy/observe/batch.ts';
import type { Audit } from '../../../proxy/observe/index.ts';
import { closeEvent, decisionEvent } from '../../helpers/events.ts';

interface Written {
  readonly audit: Audit;
  /** One text a write: the tunnels in it. */
  readonly writes: string[];
  isFull: boolean;
}

function recorder(): Written {
  const writes: string[] = [];
  const written: Written = {
    writes,
    isFull: false,
    audit: {
      fd: null,
      state: { ok: true, problem: null, kept: 0, dropped: 0 },
      decided(...events) {
        if (written.isFull) throw new Error('full');
        writes.push(`decided ${events.map(({ tunnel }) => tunnel).join(' ')}`);
      },
      closed(...events) {
        writes.push(`closed ${events.map(({ tunnel }) => tunnel).join(' ')}`);
      },
      named() {},
      dropped() {},
      probe: () => true,
      reopen() {},
      close() {},
    },
  };
  return written;
}

t.test('decisions of one turn are one write, in order, and none goes on before it', async (t) => {
  const { audit, writes } = recorder();
  const batch = createBatch(audit);
  const wentOn: string[] = [];
  const decide = async (tunnel: string): Promise<void> => {
    // As a client whose name is known already: a few turns of the microtask queue later than the others.
    for (let hops = 0; hops < Number(tunnel); hops += 1) await Promise.resolve();
    await batch.decided(decisionEvent({ tunnel }));
    wentOn.push(`${tunnel} after ${writes.length}`);
  };
  await Promise.all(['1', '2', '3'].map(decide));
  t.same(writes, ['decided 1 2 3']);
  t.same(wentOn, ['1 after 1', '2 after 1', '3 after 1']);
});

t.test(
  'when it cannot be written every decision of that turn is refused, and the next turn is asked anew',
  async (t) => {
    const written = recorder();
    const batch = createBatch(written.audit);
    written.isFull = true;
    const refused = await Promise.allSettled(
      ['1', '2'].map((tunnel) => batch.decided(decisionEvent({ tunnel }))),
    );
    t.same(
      refused.map(({ status }) => status),
      ['rejected', 'rejected'],
    );
    written.isFull = false;
    await batch.decided(decisionEvent({ tunnel: '3' }));
    t.same(written.writes, ['decided 3']);
  },
);

t.test('the close of a tunnel never comes before its decision', async (t) => {
  const { audit, writes } = recorder();
  const batch = createBatch(audit);
  const live = async (tunnel: string): Promise<void> => {
    await batch.decided(decisionEvent({ tunnel }));
    batch.closed(closeEvent({ tunnel }));
  };
  await Promise.all([live('1'), live('2')]);
  batch.flush();
  t.same(writes, ['decided 1 2', 'closed 1 2']);
});

t.test('a flush leaves nothing to the end of the turn', async (t) => {
  const { audit, writes } = recorder();
  const batch = createBatch(audit);
  const decided = batch.decided(decisionEvent({ tunnel: '1' }));
  batch.closed(closeEvent({ tunnel: '0' }));
  batch.flush();
  t.same(writes, ['decided 1', 'closed 0']);
  await decided;
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(writes.length, 2);
});
