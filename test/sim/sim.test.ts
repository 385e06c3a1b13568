import { describe, expect, test } from "vitest";
import { runSeeds } from "./pool.ts";
import { simulate } from "./run.ts";
import { scenarioOf } from "./scenario.ts";

/** The promise, under 5,000 hours in which everything goes wrong. `npm run sim` takes as many more as one likes. */

const SEEDS = 5_000;

describe("never half of a group, whatever happens, and everything comes right when the trouble is over", () => {
  test(`${SEEDS} seeds`, { timeout: 900_000 }, async () => {
    const total = await runSeeds({ from: 1, seeds: SEEDS, jobs: 2, failuresMax: 5 });
    expect(total.failures.map(({ seed, failure }) => `npm run sim -- --from ${seed} --seeds 1   ${failure}`)).toEqual([]);
    expect(total.seeds).toBe(SEEDS);

    // A simulation in which nothing happens proves nothing.
    expect(total.downs / SEEDS).toBeGreaterThan(6);
    const rare = [...total.struck].filter(([, times]) => times < SEEDS / 50);
    expect(rare).toEqual([]);
    expect([...total.struck.keys()].sort()).toEqual(SORTS);
  });

  test("one seed is one story, each time it is told", () => {
    const [first, second] = [simulate(scenarioOf(4), true), simulate(scenarioOf(4), true)];
    expect(first.timeline.length).toBeGreaterThan(50);
    expect(second.timeline).toEqual(first.timeline);
  });
});

/** Every fault that there is. */
const SORTS = [
  "abort",
  "agent dies after a write",
  "agent dies before a write",
  "agent-crash",
  "change",
  "checks",
  "clear",
  "clock",
  "cordon",
  "cut",
  "gate",
  "hold",
  "hold-node",
  "hub dies after a write",
  "hub dies before a write",
  "hub-crash",
  "hub-restore",
  "membership",
  "message cut off",
  "message doubled",
  "message held up",
  "message late",
  "message lost",
  "moment",
  "power",
  "power cycled from outside",
  "reboot",
  "returns dead",
  "returns never",
  "returns sick",
  "returns slow",
  "rollout",
  "script",
  "settle",
  "sick",
  "steer",
  "window",
];
