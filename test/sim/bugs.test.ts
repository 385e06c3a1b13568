import { describe, expect, test } from "vitest";
import { findPlanted } from "./plant.ts";
import { planted } from "./planted.ts";

/** A simulation that cannot fail is worse than none: each of these bugs is planted, alone, into a copy, and has to be found. */

/** Twice what the best hidden of them takes. */
const SEEDS_MAX = 3_000;

describe.concurrent("a planted bug is found", () => {
  test.each(planted)("$name", { timeout: 600_000 }, async (bug) => {
    const { first, seeds } = await findPlanted(bug, SEEDS_MAX, true);
    expect(first, `it was not found in ${seeds} seeds`).not.toBeNull();
  });
});
