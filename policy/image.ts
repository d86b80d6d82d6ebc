// Takes over a policy that another process has checked: by its digest, in slices, so that whoever serves meanwhile is not held up.

import { Policy, type PolicyImage } from './compile.ts';
import { digestInSlices } from './digest.ts';
import { indexText } from './index-text.ts';

/** Each slice is about a millisecond. */
const sliceBytes = 2 ** 20;
const sliceRules = 2000;

/**
 * The policy of an image from another process. Awaits `turn` between slices of about a millisecond. Throws Error when the text is not
 * what the digest was taken from; what the text says is not checked again.
 */
export async function openImage(
  { text, digest, loopback }: PolicyImage,
  turn: () => Promise<unknown> = nextTurn,
): Promise<Policy> {
  const found = await sliced(digestInSlices({ text, loopback }, sliceBytes), turn);
  if (found !== digest)
    throw new Error(`the policy that was handed over is not the one of digest \`${digest}\``);
  return new Policy({ text, digest, loopback, index: await sliced(indexText(text, sliceRules), turn) });
}

async function sliced<T>(slices: Generator<void, T>, turn: () => Promise<unknown>): Promise<T> {
  for (;;) {
    const { done, value } = slices.next();
    if (done === true) return value;
    await turn();
  }
}

async function nextTurn(): Promise<void> {
  await new Promise<void>((resolve) => void setImmediate(resolve));
}
