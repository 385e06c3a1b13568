/** What one row of the bench found. A time never stands alone: beside it stands what it is to be compared with. */
export interface Row {
  /** The word that chooses it: `npm run bench -- WORD`. */
  readonly name: string;
  readonly title: string;
  readonly figures: readonly Figure[];
  readonly requirements: readonly Requirement[];
  /** How it was measured, what was left out, and what could not be had. */
  readonly notes: readonly string[];
}

export type Unit = "ms" | "MiB" | "%" | "times" | "processes" | "resources";

export interface Figure {
  readonly what: string;
  /** The median, where there are samples. */
  readonly value: number;
  readonly unit: Unit;
  readonly samples?: readonly number[];
}

export interface Requirement {
  readonly what: string;
  readonly required: string;
  readonly reached: string;
  readonly met: boolean;
}

export function figure(what: string, unit: Unit, samples: readonly number[] | number): Figure {
  return typeof samples === "number" ? { what, unit, value: samples } : { what, unit, value: median(samples), samples };
}

export function atMost(what: string, value: number, limit: number, unit: Unit): Requirement {
  return { what, required: `at most ${show(limit, unit)}`, reached: show(value, unit), met: value <= limit };
}

export function atLeast(what: string, value: number, limit: number, unit: Unit): Requirement {
  return { what, required: `at least ${show(limit, unit)}`, reached: show(value, unit), met: value >= limit };
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** By linear interpolation between the two neighbours. @throws on an empty list: a row that measured nothing is a bug. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  if (low === undefined || high === undefined) throw new Error("no samples");
  return low + (high - low) * (at - Math.floor(at));
}

export function show(value: number, unit: Unit): string {
  const digits = Math.abs(value) >= 100 || unit === "processes" || unit === "resources" ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  if (unit === "ms" && Math.abs(value) >= 1_000) return `${(value / 1_000).toFixed(2)} s`;
  return unit === "times" ? `${value.toFixed(digits)}×` : unit === "%" ? `${value.toFixed(2)} %` : `${value.toFixed(digits)} ${unit}`;
}
