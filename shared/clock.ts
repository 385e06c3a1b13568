/**
 * The only way that our code may know or await time. `main.ts` gives the real one; tests and the simulation give one
 * that they move by hand. Wall-clock time is for people; intervals are measured with {@link Clock.monotonicMs}.
 */
export interface Clock {
  /** Milliseconds since the Unix epoch. May jump in both directions. */
  nowMs(): number;
  /** Milliseconds since some fixed point in this process. Never goes back. */
  monotonicMs(): number;
  /** Calls back once after `delayMs`, unless cancelled. Does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
}

export interface Timer {
  cancel(): void;
}

/** ISO 8601 in UTC, for times of the wall clock. A time that no calendar has (a clock gone mad) is shown as its number. */
export function isoTime(wallMs: number): string {
  try {
    return Temporal.Instant.fromEpochMilliseconds(Math.trunc(wallMs)).toString({ fractionalSecondDigits: 3 });
  } catch {
    return String(wallMs);
  }
}
