// The nearest of a few names, at a bounded cost. Knows neither hosts nor rules.

const maxDistance = 2;
const maxLength = 64;

/** The candidate at most two edits from `name`, the first of the nearest; undefined if none is that near. */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  if (name.length > maxLength) return undefined;
  let best: { candidate: string; distance: number } | undefined;
  for (const candidate of candidates) {
    const limit = best === undefined ? maxDistance : best.distance - 1;
    if (limit < 1) break;
    const distance = candidate.length > maxLength ? tooFar : editDistance(name, 0, candidate, 0, limit);
    if (distance > 0 && distance <= limit) best = { candidate, distance };
  }
  return best?.candidate;
}

const tooFar = Infinity;

// Levenshtein from `i` and `j` on, at most 3 ** limit walks; infinite when it exceeds `limit`. What is equal at both is never edited.
function editDistance(a: string, from: number, b: string, to: number, limit: number): number {
  let i = from;
  let j = to;
  while (i < a.length && j < b.length && a.charCodeAt(i) === b.charCodeAt(j)) {
    i += 1;
    j += 1;
  }
  const [restA, restB] = [a.length - i, b.length - j];
  if (Math.abs(restA - restB) > limit) return tooFar;
  if (restA === 0 || restB === 0) return restA + restB;
  if (limit === 0) return tooFar;
  const rest = Math.min(
    editDistance(a, i + 1, b, j + 1, limit - 1),
    editDistance(a, i + 1, b, j, limit - 1),
    editDistance(a, i, b, j + 1, limit - 1),
  );
  return rest + 1;
}
