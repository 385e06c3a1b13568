import { expect, test } from "vitest";
import type { Clock } from "../../shared/clock.ts";
import { Pace } from "./pace.ts";

function moving(): { clock: Clock; move: (ms: number) => void } {
  let nowMs = 1_000;
  const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, after: () => ({ cancel: () => {} }) };
  return { clock, move: (ms) => void (nowMs += ms) };
}

test("a burst passes at once; then turns come at the rate, none later for those that waited before", () => {
  const { clock, move } = moving();
  const pace = new Pace(clock, { burst: 2, perSecond: 10 });
  expect([pace.turnMs(), pace.turnMs(), pace.turnMs(), pace.turnMs()]).toEqual([1_000, 1_000, 1_100, 1_200]);
  move(200);
  expect(pace.turnMs()).toBe(1_300);
  move(10_000);
  expect([pace.turnMs(), pace.turnMs(), pace.turnMs()]).toEqual([11_200, 11_200, 11_300]);
});

test("what is refused costs nothing: whoever keeps trying gets in as soon as the rate allows", () => {
  const { clock, move } = moving();
  const pace = new Pace(clock, { burst: 1, perSecond: 0.5 });
  expect([pace.admits(), pace.admits(), pace.admits()]).toEqual([true, false, false]);
  move(1_000);
  expect(pace.admits()).toBe(false);
  move(1_000);
  expect([pace.admits(), pace.admits()]).toEqual([true, false]);
});
