import { expect, test } from "vitest";
import { PlanReport } from "../../shared/protocol/report.ts";
import { fitting } from "./fit.ts";

/** What the hub keeps of an answer when a preview has become large. */

const change = { resource: "files//a", action: "write /a", why: "differs", impact: "none", result: "planned", diff: "+".repeat(5_000) } as const;
const report = PlanReport.parse({ commit: "a".repeat(40), plannedAt: "2026-05-06T12:00:00Z", tookMs: 1, changes: [change, { ...change, resource: "files//b" }], problems: [], resources: 2 });
const kept = (roomBytes: number) => PlanReport.parse(JSON.parse(fitting(report, roomBytes)));

test("it is kept whole, then without diffs, then as a number; and says so", () => {
  expect(kept(100_000)).toEqual(report);
  const bare = kept(5_000);
  expect(bare.changes.map(({ resource, diff }) => [resource, diff])).toEqual([["files//a", undefined], ["files//b", undefined]]);
  expect(bare.problems).toMatchObject([{ code: "preview-size", message: expect.stringMatching(/keeps at most 16777216 bytes.*ask the node itself/) }]);
  expect(kept(-1)).toMatchObject({ changes: [], omitted: 2, problems: [{ code: "preview-size" }] });
});
