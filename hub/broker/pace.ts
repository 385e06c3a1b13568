import type { Clock } from "../../shared/clock.ts";

/**
 * Lets a burst pass, and then only so much a second: a node that floods is slowed down, not cut off. The one who waits
 * does not read on, so the pressure goes back through TCP to where it comes from.
 */
export class Pace {
  readonly #clock: Clock;
  readonly #burst: number;
  readonly #perSecond: number;
  #tokens: number;
  #refilledMs: number;

  constructor(clock: Clock, limits: { readonly burst: number; readonly perSecond: number }) {
    this.#clock = clock;
    this.#burst = limits.burst;
    this.#perSecond = limits.perSecond;
    this.#tokens = limits.burst;
    this.#refilledMs = clock.monotonicMs();
  }

  /** How long whoever comes now has to wait, in milliseconds. */
  take(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((nowMs - this.#refilledMs) / 1_000) * this.#perSecond);
    this.#refilledMs = nowMs;
    this.#tokens -= 1;
    return this.#tokens >= 0 ? 0 : (-this.#tokens / this.#perSecond) * 1_000;
  }
}
