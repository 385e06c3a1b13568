/** One line of the bench: always a ratio of things measured in the same run, never a bare time. */
export interface Row {
  readonly what: string;
  readonly figure: string;
  readonly ratio: string;
  readonly required: string;
  readonly met: boolean;
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] ?? Number.NaN) : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

export async function timedMs(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

export function ms(value: number): string {
  return value < 100 ? `${value.toFixed(1)} ms` : value < 10_000 ? `${value.toFixed(0)} ms` : `${(value / 1_000).toFixed(1)} s`;
}

export function mib(kib: number): string {
  return `${(kib / 1_024).toFixed(1)} MiB`;
}
