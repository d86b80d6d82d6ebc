// Holds which relay is taken when, and that asking for one that is not there is told as what this machine cannot do.
import t from 'tap';
import { exitCodes, describe, statusOf } from '../../../proxy/lifecycle.ts';
import { chooseRelay } from '../../../proxy/relay/index.ts';

const missing = (): { problem: string } => ({ problem: 'it is not built' });

t.test(
  'without the native relay `auto` is the JavaScript one, and `splice` is refused with its remedy',
  (t) => {
    t.equal(chooseRelay('auto', missing).name, 'javascript');
    try {
      chooseRelay('splice', missing);
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
  t.equal(chooseRelay('javascript').name, 'javascript');
  t.end();
});
