import type { Clock } from "../shared/clock.ts";

/** The machine's own clock: what `main.ts` hands to everything that waits or writes down a time. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, callback) {
    // setTimeout wraps around above 2^31-1 ms and would fire at once.
    const timer = setTimeout(callback, Math.min(delayMs, 0x7fff_ffff));
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

/** ISO 8601 in UTC, as everything that leaves the hub writes time. */
export function isoTime(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
