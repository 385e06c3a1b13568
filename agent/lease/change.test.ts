import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CommitId } from "../../shared/ids.ts";
import type { Change as Changed, ConvergeReport, PlanReport } from "../../shared/protocol/report.ts";
import { Change, failureOf } from "./change.ts";

const commit = "1".repeat(40) as CommitId;
const change = (more: Partial<Changed>): Changed => ({ resource: "frr/frr.service", action: "restart", why: "differs", impact: "disruptive", result: "planned", ...more });
const plan = (changes: readonly Changed[]): PlanReport => ({ commit, plannedAt: "2026-01-01T00:00:00.000Z", tookMs: 1, changes: [...changes], problems: [], resources: 1, omitted: 0 });
const report = (more: Partial<ConvergeReport> = {}): ConvergeReport => ({ commit, cause: "lease", startedAt: "2026-01-01T00:00:00.000Z", tookMs: 1, outcome: "converged", changes: [], problems: [], resources: 1, processes: 1, omitted: 0, ...more });
const never = new AbortController().signal;

let stateDir: string;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), "change-"));
});
afterEach(async () => rm(stateDir, { recursive: true, force: true }));

function changing(planned: PlanReport | { error: string }, converge: () => Promise<ConvergeReport | { error: string }>): Change {
  return new Change({ stateDir, plan: async () => planned, converge });
}

describe("what is held back is applied", () => {
  test("and nothing reboots that no step has asked to", async () => {
    expect(await changing(plan([change({})]), async () => report()).apply("l1", () => {}, never)).toEqual({ commit, failed: null, reboot: false });
  });

  test("a reboot that a step asks for is remembered through a crash in the middle, and for this lease only", async () => {
    const crashes = changing(plan([change({ impact: "reboot" })]), () => Promise.reject(new Error("killed")));
    await expect(crashes.apply("l1", () => {}, never)).rejects.toThrow("killed");
    // After the crash the plan has nothing left to do.
    const after = changing(plan([]), async () => report());
    expect(await after.apply("l1", () => {}, never)).toMatchObject({ failed: null, reboot: true });
    expect(await after.apply("l2", () => {}, never)).toMatchObject({ failed: null, reboot: false });
  });

  test("a run that is refused, or has nothing to go by, is a failure", async () => {
    expect(await changing({ error: "no commit has been chosen yet" }, async () => report()).apply("l1", () => {}, never)).toEqual({ commit: undefined, failed: "no commit has been chosen yet", reboot: false });
    expect(await changing(plan([]), async () => ({ error: "the disk is full" })).apply("l1", () => {}, never)).toEqual({ commit, failed: "the disk is full", reboot: false });
  });
});

describe("why it failed", () => {
  test("is what did not work, and is cut to what a message may hold", () => {
    const changes = Array.from({ length: 5 }, (_, index) => change({ resource: `files//etc/${index}`, result: "failed", error: "no space left" }));
    const text = failureOf(report({ outcome: "failed", changes }));
    expect(text).toContain("files//etc/0: restart failed: no space left");
    expect(text).toContain("and 2 more");
    expect(failureOf(report({ outcome: "failed", changes: [change({ result: "failed", error: "x".repeat(3_900) })] }))?.length).toBeLessThanOrEqual(1_900);
    expect(failureOf(report({ outcome: "stopped", problems: [{ code: "removal-guard", message: "would take away 12 things" }] }))).toBe("would take away 12 things");
    expect(failureOf(report({ outcome: "interrupted" }))).toBe("the run ended as interrupted");
  });

  test("waiting for another node's value is no failure", () => {
    expect(failureOf(report({ outcome: "held", changes: [change({ result: "waiting" })] }))).toBeNull();
  });
});
