// Judges what the doors that need no variable have said to the launch gate. Pure.
import type { DoorSignal } from './ask-doors.ts';
import { judgeRefusal, type ProxySignals } from './judge-proxy.ts';
import type { Heard } from './overhear.ts';
import { failIf, notTried, type ProbeResult } from './result.ts';

/** What was said, and who else was asked; `heard` is null when the wiring has no DNS. */
export interface DoorSignals {
  readonly doors: readonly DoorSignal[];
  readonly heard: Heard | null;
}

/** One result for each door, and one for all questions together. */
export function judgeDoors(signals: DoorSignals & Pick<ProxySignals, 'run'>): readonly ProbeResult[] {
  const { doors, heard, run } = signals;
  return [...doors.map((one) => judgeDoor(one, run)), ...(heard === null ? [] : [judgeHeard(heard)])];
}

function judgeDoor({ id, what, expected, said, answer }: DoorSignal, run: string): ProbeResult {
  if (said === null) return notTried(id, what, 'the policy allows no exact name that could be asked for');
  if (expected === null) return judgeRefusal({ id, what, run, answer });
  const told = said === '' ? (answer === undefined ? 'no answer' : answer.outcome) : said;
  return failIf([said === expected ? '' : `it said \`${told}\``], {
    id,
    what,
    signal: `it said ${expected}`,
  });
}

function judgeHeard({ asked, control }: Heard): ProbeResult {
  const problems = [
    control === 1 ? '' : `${control} of 1 question of the gate's own were heard`,
    asked === 0 ? '' : `${asked} questions for it went to a resolver`,
  ];
  return failIf(problems, {
    id: 'dns-nobody-asked',
    what: 'nobody on this machine asks on for a name that no policy lists',
    signal: "the gate's own question was heard, and no other",
  });
}
