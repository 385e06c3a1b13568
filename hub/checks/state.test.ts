import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { LookResult } from "./look.ts";
import { afterExtraLook, afterLook, unknownProgress, unwatched, watched, type CheckProgress } from "./state.ts";

const results: Readonly<Record<string, LookResult>> = {
  W: { ok: true, tookMs: 3 },
  F: { ok: false, looked: true, tookMs: 5, message: "connection refused" },
  U: { ok: false, looked: false, tookMs: 1, message: "ping is missing" },
};

/** Walks through looks one second apart: W well, F failed, U unable to look. */
function after(looks: string, failuresMax = 3, from = unknownProgress(0)): CheckProgress {
  return looks.split("").reduce((progress, letter, index) => afterLook(progress, results[letter] ?? { ok: true, tookMs: 0 }, { failuresMax }, (index + 1) * 1_000), from);
}

test.each([
  // looks, failuresMax, state, since (in looks)
  ["", 3, "unknown", 0],
  ["W", 3, "ok", 1],
  ["F", 3, "unknown", 0],
  ["FW", 3, "unknown", 0],
  ["FWW", 3, "ok", 3],
  ["FFF", 3, "failing", 3],
  ["F", 1, "failing", 1],
  ["FW", 1, "ok", 2],
  ["WFF", 3, "ok", 1],
  ["WFFWFF", 3, "ok", 1],
  ["WFFF", 3, "failing", 4],
  ["WFFFW", 3, "failing", 4],
  ["WFFFWFW", 3, "failing", 4],
  ["WFFFWW", 3, "ok", 6],
  ["WFFFFFWW", 5, "failing", 6],
  ["WFFFFFWWW", 5, "ok", 9],
  ["WUU", 3, "ok", 1],
  ["WUUU", 3, "unknown", 4],
  ["WUUUW", 3, "unknown", 4],
  ["WUUUWW", 3, "ok", 6],
  ["WUUWUU", 3, "ok", 1],
  ["FFUF", 3, "failing", 4],
  ["UUUUW", 3, "ok", 5],
  ["FFFUUUF", 3, "unknown", 6],
] as const)("%s with failuresMax %i is %s", (looks, failuresMax, state, since) => {
  expect(after(looks, failuresMax)).toMatchObject({ state, sinceMs: since * 1_000 });
});

test("the message stays while there is trouble, and goes with it", () => {
  expect(after("WF").lastMessage).toBe("connection refused");
  expect(after("WFW").lastMessage).toBeNull();
  expect(after("WFFFW").lastMessage).toBe("connection refused");
  expect(after("WFFFWW").lastMessage).toBeNull();
  expect(after("U")).toMatchObject({ lastMessage: "ping is missing", lastLookAtMs: null, latencyMs: null, total: { looked: 0, failed: 0 } });
});

test("never looked, too few looks, and unable to look can be told apart", () => {
  expect(after("")).toMatchObject({ state: "unknown", total: { looked: 0 }, lastMessage: null });
  expect(after("F")).toMatchObject({ state: "unknown", total: { looked: 1 } });
  expect(after("UUU")).toMatchObject({ state: "unknown", total: { looked: 0 }, lastMessage: "ping is missing" });
});

const letter = fc.constantFrom("W", "F", "U");
const letters = fc.array(letter, { maxLength: 40 }).map((list) => list.join(""));
const limit = fc.integer({ min: 1, max: 8 });

/** Without those that could not look. */
function seen(looks: string): string {
  return looks.replaceAll("U", "");
}

describe("whatever happened before", () => {
  test("enough in a row decide, fewer change nothing", () => {
    fc.assert(
      fc.property(letters, limit, (before, failuresMax) => {
        const from = after(before, failuresMax);
        const half = Math.ceil(failuresMax / 2);
        expect(after("F".repeat(failuresMax), failuresMax, from).state).toBe("failing");
        expect(after("W".repeat(half), failuresMax, from).state).toBe("ok");
        expect(after("U".repeat(failuresMax), failuresMax, from).state).toBe("unknown");
        if (from.state === "ok" && !before.endsWith("F") && !before.endsWith("U")) expect(after("F".repeat(failuresMax - 1), failuresMax, from).state).toBe("ok");
        if (from.state === "failing" && !before.endsWith("W") && !before.endsWith("U")) expect(after("W".repeat(half - 1), failuresMax, from).state).toBe("failing");
      }),
    );
  });

  test("a state is entered only on its evidence, and `since` is when", () => {
    fc.assert(
      fc.property(letters, limit, (looks, failuresMax) => {
        let progress = unknownProgress(0);
        for (const [index, result] of looks.split("").entries()) {
          const nowMs = (index + 1) * 1_000;
          const next = afterLook(progress, results[result] ?? { ok: true, tookMs: 0 }, { failuresMax }, nowMs);
          const soFar = looks.slice(0, index + 1);
          if (next.state === progress.state) {
            expect(next.sinceMs).toBe(progress.sinceMs);
          } else {
            expect(next.sinceMs).toBe(nowMs);
            if (next.state === "failing") expect(seen(soFar).endsWith("F".repeat(failuresMax))).toBe(true);
            if (next.state === "unknown") expect(soFar.endsWith("U".repeat(failuresMax))).toBe(true);
            if (next.state === "ok") expect(seen(soFar) === "W" || seen(soFar).endsWith("W".repeat(Math.ceil(failuresMax / 2)))).toBe(true);
          }
          progress = next;
        }
      }),
    );
  });

  test("everything is counted once, for all who count meanwhile; extra looks only count", () => {
    const step = fc.record({ letter, extra: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.array(step, { maxLength: 30 }), limit, (before, during, failuresMax) => {
        const walk = (from: CheckProgress, steps: typeof before): CheckProgress =>
          steps.reduce((progress, { letter, extra }) => {
            const result = results[letter] ?? { ok: true, tookMs: 0 };
            const next = extra ? afterExtraLook(progress, result, 1) : afterLook(progress, result, { failuresMax }, 1);
            if (extra) expect({ state: next.state, inARow: next.inARow, sinceMs: next.sinceMs }).toEqual({ state: progress.state, inARow: progress.inARow, sinceMs: progress.sinceMs });
            return next;
          }, from);
        const tally = (steps: typeof before): { looked: number; failed: number } => ({ looked: steps.filter(({ letter }) => letter !== "U").length, failed: steps.filter(({ letter }) => letter === "F").length });
        const end = walk(watched(walk(unknownProgress(0), before), "rollout", { looked: 7, failed: 2 }), during);
        expect(end.total).toEqual(tally([...before, ...during]));
        expect(end.watches["rollout"]).toEqual({ looked: 7 + tally(during).looked, failed: 2 + tally(during).failed });
        expect(unwatched(end, "rollout").watches).toEqual({});
      }),
    );
  });
});
