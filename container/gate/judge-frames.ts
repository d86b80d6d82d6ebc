// Judges what the launch gate saw of layer 2: what must not pass was counted by the fence and by nothing behind it. Pure.
import type { Frames, FrameSight } from './frames.ts';
import { failIf, notTried, type ProbeResult } from './result.ts';

/** The verdict on every kind of frame. */
export function judgeFrames(frames: Frames): readonly ProbeResult[] {
  return frames.sights.map((sight) => (sight.isControl ? judgeControl(sight) : judgeFrame(sight, frames)));
}

function judgeControl({ id, what, ahead, past, answers }: FrameSight): ProbeResult {
  const problems = [
    ahead > 0 ? '' : 'it did not come as far as the fence',
    past > 0 ? '' : 'it did not pass the fence',
    answers > 0 ? '' : 'nobody answered',
  ];
  return failIf(problems, { id, what, signal: `${past} passed and had an answer, as they must` });
}

/** The class has one counter for all of them: it must have risen by all that came. */
function judgeFrame(sight: FrameSight, { sights, rose, above }: Frames): ProbeResult {
  const { id, what, tried, ahead, past, answers } = sight;
  if (!tried) return notTried(id, what, 'this kernel has no egress hook (Linux 5.16)');
  const sent = sights.reduce((sum, one) => sum + (one.isControl ? 0 : one.ahead), 0);
  const problems = [
    ahead > 0 ? '' : 'it did not come as far as the fence',
    past === 0 ? '' : `${past} passed the fence`,
    rose >= sent ? '' : `counter \`layer2\` rose by ${rose} for ${sent} frames`,
    answers === 0 ? '' : 'somebody answered',
    above.length === 0 ? '' : `the link of the sandbox is part of another: ${above.join(', ')}`,
  ];
  return failIf(problems, { id, what, signal: `${ahead} sent, counter \`layer2\` rose, none passed` });
}
