/** More candidates than this are not searched: a suggestion is a courtesy, and must not cost more than the error. */
const CANDIDATES_MAX = 2_000;
/** Longer words are never mistyped names. */
const WORD_LENGTH_MAX = 64;

/** The candidate that was most likely meant by `word`, or undefined when none is near enough to be worth a guess. */
export function suggest(word: string, candidates: Iterable<string>): string | undefined {
  if (word.length > WORD_LENGTH_MAX) return undefined;
  const wanted = word.toLowerCase();
  const distanceMax = wanted.length <= 2 ? 1 : wanted.length <= 5 ? 2 : 3;
  let best: string | undefined;
  let bestDistance = distanceMax + 1;
  let seen = 0;
  for (const candidate of candidates) {
    if (++seen > CANDIDATES_MAX) break;
    if (candidate === word || candidate.length > WORD_LENGTH_MAX) continue;
    const distance = editDistance(wanted, candidate.toLowerCase());
    // Replacing every letter is not a typing mistake: at least half of the longer word must survive.
    if (distance * 2 > Math.max(wanted.length, candidate.length)) continue;
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best ?? prefixed(wanted, candidates);
}

/** `nginx` for `nginx-light`: a name cut short is the other common slip. Only when exactly one candidate fits. */
function prefixed(wanted: string, candidates: Iterable<string>): string | undefined {
  if (wanted.length < 3) return undefined;
  const found: string[] = [];
  for (const candidate of candidates) {
    if (candidate.toLowerCase().startsWith(wanted) && candidate.toLowerCase() !== wanted) found.push(candidate);
    if (found.length > 1) return undefined;
  }
  return found[0];
}

/** `did you mean "packages"?`, or undefined. */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  const found = suggest(word, candidates);
  return found === undefined ? undefined : `did you mean ${JSON.stringify(found)}?`;
}

/** Damerau's distance in its "optimal string alignment" form: insert, delete, replace, and swap of two neighbours. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let distance = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        distance = Math.min(distance, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(distance);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
