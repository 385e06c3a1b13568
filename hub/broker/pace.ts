import type { Clock } from "../../shared/clock.ts";

/** Lets a burst pass, and then only so much a second. */
export class Pace {
  readonly #clock: Clock;
  readonly #burst: number;
  readonly #perSecond: number;
  /** Below zero: so many have been let in ahead of their time, and wait. */
  #tokens: number;
  #refilledMs: number;

  constructor(clock: Clock, limits: { readonly burst: number; readonly perSecond: number }) {
    this.#clock = clock;
    this.#burst = limits.burst;
    this.#perSecond = limits.perSecond;
    this.#tokens = limits.burst;
    this.#refilledMs = clock.monotonicMs();
  }

  /** Whether one more may pass now. One that may not costs nothing: it does not delay the next. */
  admits(): boolean {
    this.#refill();
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /**
   * For those who wait instead of being refused: when their turn is, on the monotonic clock. The one who waits does not
   * read on, so the pressure goes back through TCP to where it comes from.
   */
  turnMs(): number {
    const nowMs = this.#refill();
    this.#tokens -= 1;
    return this.#tokens >= 0 ? nowMs : nowMs + (-this.#tokens / this.#perSecond) * 1_000;
  }

  #refill(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((nowMs - this.#refilledMs) / 1_000) * this.#perSecond);
    this.#refilledMs = nowMs;
    return nowMs;
  }
}
