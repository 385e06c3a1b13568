import { expect, test } from "vitest";
import type { Clock } from "../../shared/clock.ts";
import { LoginLimiter, addressesMax } from "./limiter.ts";

function moving(): { clock: Clock; move: (ms: number) => void } {
  let nowMs = 0;
  const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, after: () => ({ cancel: () => {} }) };
  return { clock, move: (ms) => void (nowMs += ms) };
}

test("ten failures are forgiven, then an address has to wait, and others do not", () => {
  const { clock, move } = moving();
  const limiter = new LoginLimiter(clock);
  const answers = Array.from({ length: 12 }, () => limiter.failed("a").retryAfterS);
  expect(answers).toEqual([...Array.from({ length: 10 }, () => 0), 6, 6]);
  expect(limiter.failed("b").retryAfterS).toBe(0);
  move(6_000);
  expect([limiter.failed("a").retryAfterS, limiter.failed("a").retryAfterS]).toEqual([0, 6]);
});

test("however many addresses fail, memory and notes stay bounded", () => {
  const { clock } = moving();
  const limiter = new LoginLimiter(clock);
  let notes = 0;
  for (let at = 0; at < 3 * addressesMax; at += 1) if (limiter.failed(`address-${at}`).note) notes += 1;
  expect(limiter.size).toBe(addressesMax);
  expect(notes).toBe(20);
});
