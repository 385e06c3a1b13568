import { expect, test } from "vitest";
import type { ConvergeMessage } from "../../shared/protocol/messages.ts";
import { conditionOf, type NodeFacts } from "./condition.ts";

const head = "a".repeat(40);
const other = "b".repeat(40);
const at = "2026-01-01T00:00:00.000Z";
const converge = (more: Partial<ConvergeMessage> = {}): ConvergeMessage => ({ v: 1, commit: head as ConvergeMessage["commit"], outcome: "converged", at, failing: [], refused: null, problems: [], ...more });
const well: NodeFacts = { name: "n1", inRepository: true, fleetlock: false, enrolledAt: at, revokedAt: null, lastSeenAt: at, online: true, refusal: null, converge: converge(), head };

const cases: readonly [string, Partial<NodeFacts>, string, RegExp][] = [
  ["a FleetLock machine never enrols", { fleetlock: true, enrolledAt: null, online: false, converge: null }, "guest", /^$/],
  ["all is well", {}, "converged", /^$/],
  ["revoked beats everything", { revokedAt: at, online: false }, "revoked", /evenkeel node add n1/],
  ["never enrolled", { enrolledAt: null, online: false, converge: null }, "waiting", /evenkeel node add n1/],
  ["a cloned machine is refused, though it is not online", { refusal: "same machine-id as n2", online: false }, "refused", /n2/],
  ["away", { online: false }, "offline", /last heard of at 2026-01-01/],
  ["away, and never seen", { online: false, lastSeenAt: null }, "offline", /never connected/],
  ["refuses a commit", { converge: converge({ commit: other as never, refused: { commit: head, message: "not signed", at } }) }, "refused", /refuses aaaaaaaa: not signed/],
  ["refused what it now runs", { converge: converge({ refused: { commit: head, message: "not signed", at } }) }, "converged", /^$/],
  ["holds its commit, but has a problem", { converge: converge({ problems: [{ code: "fetch", message: "cannot reach the repository" }] }) }, "failing", /cannot reach the repository/],
  ["a resource fails", { converge: converge({ outcome: "failed", failing: [{ resource: "packages/x", error: "E: no\nmore" }, { resource: "files/y", error: "e" }] }) }, "failing", /^packages\/x: E: no \(and 1 more\)$/],
  ["a guard stopped it", { converge: converge({ outcome: "stopped", problems: [{ code: "removal-guard", message: "12 removals" }] }) }, "failing", /12 removals/],
  ["interrupted", { converge: converge({ outcome: "interrupted" }) }, "failing", /next one repairs/],
  ["has an older commit", { converge: converge({ commit: other as never }) }, "behind", /runs bbbbbbbb, the main branch is at aaaaaaaa/],
  ["is at it", { converge: converge({ outcome: "running" }) }, "converging", /applying aaaaaaaa/],
  ["has said nothing yet", { converge: null }, "converging", /first converge/],
  ["has no file", { converge: null, inRepository: false }, "behind", /no nodes\/n1\.yaml/],
  ["nothing was pushed", { converge: null, head: null }, "converging", /nothing has been pushed/],
];

test.each(cases)("%s", (_name, more, condition, why) => {
  expect(conditionOf({ ...well, ...more })).toEqual({ condition, why: expect.stringMatching(why) });
});
