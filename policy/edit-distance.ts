// The nearest of a few names, at a bounded cost. Knows neither hosts nor rules.

const maxDistance = 2;
const maxLength = 64;

/** The candidate at most two edits from `name`, the first of the nearest; undefined if none is that near. */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  let best: { candidate: string; distance: number } | undefined;
  for (const candidate of candidates) {
    const limit = best === undefined ? maxDistance : best.distance - 1;
    if (limit < 1) break;
    const distance = editDistance(name, candidate, limit);
    if (distance !== undefined && distance > 0) best = { candidate, distance };
  }
  return best?.candidate;
}

// Levenshtein with an early end; undefined when the distance exceeds `limit` or a name is too long to be a slip.
function editDistance(a: string, b: string, limit: number): number | undefined {
  if (Math.abs(a.length - b.length) > limit || a.length > maxLength || b.length > maxLength) return undefined;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    row = nextRow(row, a.charCodeAt(i - 1), b);
    if (Math.min(...row) > limit) return undefined;
  }
  const distance = row.at(-1) ?? 0;
  return distance > limit ? undefined : distance;
}

function nextRow(row: readonly number[], code: number, b: string): number[] {
  const next = [(row[0] ?? 0) + 1];
  for (let j = 1; j <= b.length; j += 1) {
    const replaced = (row[j - 1] ?? 0) + (b.charCodeAt(j - 1) === code ? 0 : 1);
    next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
  }
  return next;
}
