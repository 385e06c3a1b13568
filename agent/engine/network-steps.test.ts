import { describe, expect, test } from "vitest";
import type { Impact, ResourceId, Step } from "../../shared/kinds/kind.ts";
import { isNetwork, neededInside, splitNetwork } from "./network-steps.ts";

const step = (resource: ResourceId, impact: Impact, more: Partial<Step> = {}): Step => ({ resource, why: "", impact, do: "remove", path: "/x", ...more }) as Step;
const undo = { doing: "", argv: ["true"] as const, timeoutMs: 1 };
const names = (steps: readonly Step[]) => steps.map(({ resource }) => resource).join(" ");
const split = (steps: readonly Step[], waiting: readonly ResourceId[] = []) => {
  const { now, inside, after } = splitNetwork(steps, new Set(waiting));
  return [names(now), names(inside), names(after)];
};

describe("the steps of a kind", () => {
  test("go now where nothing is of the network", () => {
    expect(split([step("a/1", "service"), step("a/2", "disruptive")])).toEqual(["a/1 a/2", "", ""]);
  });

  test("from the first of the network to the last go together, in their order, and what comes behind them comes later", () => {
    const steps = [step("k/script", "none"), step("k/rules", "network"), step("k/unit", "none"), step("k/live", "network"), step("k/old", "none")];
    expect(split(steps)).toEqual(["k/script", "k/rules k/unit k/live", "k/old"]);
  });

  test("a resource goes as a whole", () => {
    expect(split([step("k/x", "none"), step("k/y", "none"), step("k/x", "network")])).toEqual(["", "k/x k/y k/x", ""]);
  });

  test("what they need goes along where it does harm, and stays outside where it is harmless", () => {
    const steps = [step("k/script", "none"), step("k/bond.netdev", "disruptive"), step("k/load", "disruptive", { needs: ["k/bond.netdev", "k/script"], undo })];
    expect(split(steps)).toEqual(["k/script", "k/bond.netdev k/load", ""]);
  });

  test("what needs them waits, however far away, also of an earlier kind", () => {
    expect(split([step("a/1", "none"), step("a/2", "none", { needs: ["net/x"] }), step("a/3", "none", { needs: ["a/2"] }), step("a/4", "none", { needs: ["a/1"] })], ["net/x"])).toEqual(["a/1 a/4", "", "a/2 a/3"]);
    expect(split([step("k/page", "none", { needs: ["k/x"] }), step("k/x", "network")])).toEqual(["", "k/x", "k/page"]);
  });
});

test("what is disruptive and says how it is undone can cut the node off", () => {
  expect([step("a/1", "disruptive", { undo }), step("a/2", "disruptive"), step("a/3", "service", { undo })].map(isNetwork)).toEqual([true, false, false]);
});

test("what was to come later goes inside when a later kind's network needs it", () => {
  const after = [step("keys/k", "none", { needs: ["net/x", "keys/dir"] }), step("keys/dir", "none"), step("page/p", "none", { needs: ["net/x"] })];
  expect([...neededInside([step("net/x", "network"), step("bgp/b", "network", { needs: ["keys/k", "a/1"] })], after)].toSorted()).toEqual(["keys/dir", "keys/k"]);
});
