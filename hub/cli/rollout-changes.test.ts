import { expect, test } from "vitest";
import type { RolloutNode, RolloutView } from "../../shared/protocol/rollout.ts";
import { denialOf, rolloutNodeOf, rolloutOf } from "../http/coordination-twin.ts";
import { changesBetween, type Change } from "./rollout-changes.ts";

const lookedAt = "2026-05-04T02:00:00.000Z";
const at = (minute: number): string => `2026-05-04T01:${String(minute).padStart(2, "0")}:00.000Z`;
const phases = (...names: readonly string[]): RolloutNode["timeline"] => names.map((phase, index) => ({ phase, at: at(index) }));
const view = (nodes: readonly RolloutNode[], more: Partial<RolloutView> = {}): RolloutView => ({ ...rolloutOf("r1", []), nodes: [...nodes], ...more });
const short = (changes: readonly Change[]): unknown[] => changes.map((change) => (change.change === "rollout" ? change.phase : [change.node, change.phase, change.progress === "" ? (change.denials[0]?.text ?? "") : change.progress]));

test("a first look says how everything stands", () => {
  const now = view([rolloutNodeOf("n1", { state: "working", timeline: phases("draining", "drained", "rebooting"), progress: "rebooting" }), rolloutNodeOf("n2", { denials: [denialOf("order", "n1 is at it")] })]);
  expect(short(changesBetween(null, now, lookedAt))).toEqual(["running", ["n1", "rebooting", "rebooting"], ["n2", "waiting", "n1 is at it"]]);
});

test("nothing new is nothing", () => {
  const now = view([rolloutNodeOf("n1", { state: "working", timeline: phases("draining", "rebooting"), progress: "rebooting" })]);
  expect(changesBetween(now, now, lookedAt)).toEqual([]);
});

test("phases that went by between two looks are told, in order and with their times", () => {
  const before = view([rolloutNodeOf("n1", { state: "draining", timeline: phases("draining"), progress: "stopping nginx" }), rolloutNodeOf("n2")]);
  const now = view([rolloutNodeOf("n1", { state: "soaking", timeline: phases("draining", "drained", "working", "rebooting", "checking", "soaking"), progress: "watched" }), rolloutNodeOf("n2")]);
  const changes = changesBetween(before, now, lookedAt);
  expect(short(changes)).toEqual([["n1", "drained", ""], ["n1", "working", ""], ["n1", "rebooting", ""], ["n1", "checking", ""], ["n1", "soaking", "watched"]]);
  expect(changes.map((change) => change.at)).toEqual([1, 2, 3, 4, 5].map(at));
});

test("progress and other reasons to wait are told; that another node goes on is not", () => {
  const waiting = (text: string, code = "order"): RolloutNode => rolloutNodeOf("n2", { denials: [denialOf(code, text)] });
  const working = (progress: string): RolloutNode => rolloutNodeOf("n1", { state: "working", timeline: phases("draining", "working"), progress });
  expect(short(changesBetween(view([working("1 of 3"), waiting("n1 is at it (draining)")]), view([working("2 of 3"), waiting("n1 is at it (working)")]), lookedAt))).toEqual([["n1", "working", "2 of 3"]]);
  expect(short(changesBetween(view([waiting("n1 is at it")]), view([waiting("all: n3 is unreachable", "quorum")]), lookedAt))).toEqual([["n2", "waiting", "all: n3 is unreachable"]]);
});

test("a failure, what was skipped, a node that begins again", () => {
  const result = { ok: false, rebooted: false, failure: "dpkg is broken", update: null };
  const before = view([rolloutNodeOf("n1", { state: "working", timeline: phases("draining", "working") }), rolloutNodeOf("n2"), rolloutNodeOf("n3", { state: "drained", timeline: phases("draining", "drained") })]);
  const now = view([rolloutNodeOf("n1", { state: "failed", timeline: phases("draining", "working", "released"), result, endedAt: at(9) }), rolloutNodeOf("n2", { state: "skipped" }), rolloutNodeOf("n3", { state: "waiting", timeline: [] })], { phase: "halted", halt: { at: at(9), node: null, why: "n1 failed", cure: "" } });
  const changes = changesBetween(before, now, lookedAt);
  expect(short(changes)).toEqual([["n1", "released", ""], ["n1", "failed", ""], ["n2", "skipped", ""], ["n3", "waiting", ""], "halted"]);
  expect(changes[1]).toMatchObject({ failure: "dpkg is broken", at: at(9) });
});

test("the end comes last", () => {
  const before = view([rolloutNodeOf("n1", { state: "soaking", timeline: phases("draining", "soaking") })]);
  const now = view([rolloutNodeOf("n1", { state: "done", timeline: phases("draining", "soaking", "done"), endedAt: at(2) })], { phase: "done", endedAt: at(2) });
  expect(short(changesBetween(before, now, lookedAt))).toEqual([["n1", "done", ""], "done"]);
});
