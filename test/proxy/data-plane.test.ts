// Holds which data plane is taken when, and that asking for one that is not there is told as what this machine cannot do.
import t from 'tap';
import { exitCodes, describe, statusOf } from '../../proxy/lifecycle.ts';
import { chooseDataPlane, type DataPlane } from '../../proxy/data-plane.ts';

function namesOf({ relay, network }: DataPlane): readonly string[] {
  return [relay.name, network.name];
}

const missing = (): { problem: string } => ({ problem: 'it is not built' });
const without = { relay: missing, conn: missing };

t.test(
  'without the native relay `auto` is the JavaScript one, and `splice` is refused with its remedy',
  (t) => {
    t.same(namesOf(chooseDataPlane('auto', without)), ['javascript', 'node']);
    try {
      chooseDataPlane('splice', without);
      t.fail('it was given');
    } catch (error) {
      t.equal(statusOf(error), exitCodes.cannot);
      t.match(
        describe(error),
        /^error: the splice relay cannot be used: it is not built\nhelp: .*C compiler/,
      );
    }
    t.end();
  },
);

t.test('the JavaScript relay is taken when it is asked for, whatever is built', (t) => {
  t.same(namesOf(chooseDataPlane('javascript')), ['javascript', 'node']);
  t.end();
});
