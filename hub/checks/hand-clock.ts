import type { Clock, Timer } from "../../shared/clock.ts";

/** A clock that tests move by hand. Timers ring in their order while it moves, also those that are set meanwhile. */
export class HandClock implements Clock {
  #elapsedMs = 0;
  readonly #timers = new Set<{ readonly dueMs: number; readonly ring: () => void }>();

  /** Half past noon on a day of no importance. */
  nowMs(): number {
    return Date.UTC(2026, 4, 6, 12, 30) + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = { dueMs: this.#elapsedMs + delayMs, ring: callback };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  advance(ms: number): void {
    const untilMs = this.#elapsedMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(({ dueMs }) => dueMs <= untilMs).sort((one, other) => one.dueMs - other.dueMs)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#elapsedMs = Math.max(this.#elapsedMs, due.dueMs);
      due.ring();
    }
    this.#elapsedMs = untilMs;
  }
}
