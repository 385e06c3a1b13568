import { expect, test } from "vitest";
import type { CommitId, NodeName } from "../../shared/ids.ts";
import { CommitTurn } from "./commit-turn.ts";

const [old, commit] = ["1".repeat(40), "2".repeat(40)] as CommitId[] as [CommitId, CommitId];
const canaries = ["n1"] as NodeName[];
const said = (take: boolean, about = commit) => ({ v: 1, kind: "commit", commit: about, take, why: "n1 is watched with it" }) as const;

test("the canary waits for nobody, and nobody waits where nobody goes first", () => {
  expect(new CommitTurn("n1", true).whyWait(commit, canaries)).toBeNull();
  expect(new CommitTurn("n2", true).whyWait(commit, [])).toBeNull();
});

test("the others wait until they are told of this very commit, and say for what", () => {
  const turn = new CommitTurn("n2", true);
  expect(turn.whyWait(commit, canaries)).toBe("commit 22222222 goes to n1 first, and this node waits: the hub has not said yet how n1 does with it");
  turn.heard(said(true, old));
  expect(turn.whyWait(commit, canaries)).toContain("has not said yet");
  turn.heard(said(false));
  expect(turn.whyWait(commit, canaries)).toBe("commit 22222222 goes to n1 first, and this node waits: n1 is watched with it");
  expect(turn.released).toBe(old);
  turn.heard(said(true));
  expect(turn.whyWait(commit, canaries)).toBeNull();
});

test("a node that belongs to no hub would wait for ever, and does not", () => {
  expect(new CommitTurn("n2", false).whyWait(commit, canaries)).toBeNull();
});
