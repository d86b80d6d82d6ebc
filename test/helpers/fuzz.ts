// Runs fast-check properties the same way everywhere: seeded, so that a red run can be repeated. Knows no property.
// SALLYPORT_FUZZ_SECONDS=60 runs each property that long; SALLYPORT_FUZZ_SEED=7 takes another seed (`random` a new one).
import fc from 'fast-check';

const fixedSeed = 20_261_121;

/** Parameters for fc.assert: `runs` cases with the fixed seed, or as the environment says. */
export function fuzzParameters<T>(runs = 1000): fc.Parameters<T> {
  const seed = seedFrom(process.env['SALLYPORT_FUZZ_SEED']);
  const seconds = Number(process.env['SALLYPORT_FUZZ_SECONDS'] ?? 0);
  if (!(seconds > 0)) return { seed, numRuns: runs };
  return { seed, numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: seconds * 1000 };
}

function seedFrom(text: string | undefined): number {
  if (text === 'random') return Math.floor(Math.random() * 2 ** 31);
  const seed = Number(text ?? fixedSeed);
  if (!Number.isInteger(seed))
    throw new Error(`SALLYPORT_FUZZ_SEED is \`${text}\`\nhelp: give a whole number, or random`);
  return seed;
}

/** Fails with the seed and the smallest counterexample unless the property holds. */
export async function assertHolds<T>(property: fc.IRawProperty<T>, runs?: number): Promise<void> {
  await fc.assert(property, fuzzParameters<T>(runs));
}
