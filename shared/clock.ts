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
