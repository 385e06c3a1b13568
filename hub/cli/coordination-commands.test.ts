import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { NodeName } from "../../shared/ids.ts";
import { denialOf, leaseOf, rolloutOf } from "../http/coordination-twin.ts";
import { TwinHub } from "../http/twin-hub.ts";
import { evenkeel as run, start, type Ran } from "./evenkeel-twin.ts";

/** Drains, holds and slots from the command line, against the real API before a coordinator in memory. */

const hub = new TwinHub();
const { coordination } = hub;
const evenkeel = (...args: readonly string[]): Promise<Ran> => run(hub, ...args);
beforeAll(() => hub.start());
afterAll(() => hub.end());
beforeEach(() => {
  coordination.asked.length = 0;
  Object.assign(coordination, { denials: [], leases: [], requests: [], holds: [], all: [], more: {} });
});

const quorum = denialOf("quorum", "all: 1 of 3 may be down, and n3 is", "wait until n3 is back");

describe("looking", () => {
  test("why says what stands in the way, since when, and what would change it", async () => {
    coordination.denials = [quorum, denialOf("hold", "held by ada\u001b[2J: holidays", "evenkeel unhold")];
    const { code, stdout } = await evenkeel("why", "n2");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^n2 {2}all: 1 of 3 may be down, and n3 is\n {2}quorum {2}all: 1 of 3 may be down, and n3 is \(for \d+ \w+\)\n {10}→ wait until n3 is back\n {2}hold /);
    expect(stdout).not.toContain("\u001b");
    expect(JSON.parse((await evenkeel("why", "n2", "--json")).stdout)).toMatchObject({ node: "n2", denials: [{ code: "quorum" }, { code: "hold" }] });
    expect(await evenkeel("why", "n7")).toMatchObject({ code: 1, stderr: expect.stringContaining("n7 is not a node of the repository") });
  });

  test("status has the groups, the rollout, slots and holds below the nodes", async () => {
    coordination.leases = [leaseOf("a-1", "n3", { by: "ada" })];
    coordination.all = [rolloutOf("r1", ["n1", "n2"], { forecast: { doneAt: null, fits: "yes", text: "0 of 2 done, about 12 min to go" } })];
    coordination.holds = [{ what: "n2", by: "bob", why: "new disk", since: "2026-05-04T00:00:00.000Z", until: null }];
    const { stdout } = await evenkeel("status");
    expect(stdout).toMatch(/n1 +waiting/);
    expect(stdout).toContain("group all   2 of 3 up, may lose no more (n3: held by ada)\n");
    expect(stdout).toContain("rollout     r1: update by ada, running: 0 of 2 done, about 12 min to go\n");
    expect(stdout).toMatch(/slot of n3 +hold by ada, held for /);
    expect(stdout).toContain("held        n2 by bob, until somebody lifts it: new disk\n");
    expect(JSON.parse((await evenkeel("status", "--json")).stdout)).toMatchObject({ counts: { total: 3 }, coordination: { groups: [{ name: "all" }] } });
  });

  test("leases, checks and updates are tables, or JSON", async () => {
    expect((await evenkeel("leases")).stdout).toContain("nobody holds a slot");
    coordination.leases = [leaseOf("a-1", "n3", { phase: "checking", stuck: { since: "2026-05-04T00:00:00.000Z", why: "it does not come back" } })];
    coordination.requests = [{ id: leaseOf("b-2", "n1").id, node: NodeName.parse("n1"), work: "reboot", by: "bob", rollout: null, requestedAt: "2026-05-04T00:00:00.000Z", denials: [quorum] }];
    coordination.more = {
      checks: [{ name: "website", kind: "http", target: "http://10.0.0.9/", gates: true, state: "failing", since: "2026-05-04T00:00:00.000Z", lastMessage: "status 503", lastLookAt: null, lookedCount: 10, failedCount: 3, latencyMs: 12.3 }],
      updates: [{ node: NodeName.parse("n1"), lookedAt: "2026-05-04T00:00:00.000Z", error: null, pending: 7, security: 2, held: 0, reboot: "yes", rebootWhy: ["a newer kernel is installed"], restarts: [], conflicts: [] }],
    };
    const leases = (await evenkeel("leases")).stdout;
    expect(leases).toMatch(/n3 +hold +stuck .* a-1 +it does not come back\n/);
    expect(leases).toMatch(/n1 +reboot +asked .* b-2 +all: 1 of 3 may be down, and n3 is\n/);
    expect((await evenkeel("checks")).stdout).toMatch(/website +failing .* 12 ms +3 of 10 +yes +http:\/\/10\.0\.0\.9\/ +status 503/);
    expect((await evenkeel("updates")).stdout).toMatch(/n1 +7 +2 +0 +yes .*a newer kernel is installed/);
    expect(JSON.parse((await evenkeel("updates", "--json")).stdout)).toMatchObject([{ node: "n1", pending: 7 }]);
  });

  test("fleetlock-id needs no hub", async () => {
    expect((await evenkeel("fleetlock-id", "3d1219c7c4c5404aaa1f6d2a48adfda4")).stdout).toBe("975228d46dc94622b9bbe16671e2b58d\n");
    expect((await evenkeel("fleetlock-id", "n1")).code).toBe(2);
  });
});

describe("asking", () => {
  test("drain, reboot, hold, unhold and settle say what they did, and who asked why", async () => {
    expect((await evenkeel("drain", "n2", "--why", "new memory")).stdout).toContain("n2 will be drained as soon as it may be");
    expect((await evenkeel("reboot", "n1", "--why", "kernel", "--despite-checks", "--json")).stdout).toMatch(/"lease": "lease-2"/);
    expect((await evenkeel("hold", "--until", "2h", "--why", "holidays")).stdout).toMatch(/^held: the cluster by you, until .*: holidays; `evenkeel unhold` lifts it\n$/);
    expect((await evenkeel("hold", "n3", "--why", "disk")).stdout).toContain("held: n3 by you, until somebody lifts it: disk");
    expect((await evenkeel("unhold", "n3")).stdout).toBe("n3 is not held any more\n");
    expect((await evenkeel("unhold")).stdout).toBe("the cluster is not held any more\n");
    expect((await evenkeel("settle", "all", "--why", "n4 is gone")).code).toBe(0);
    expect(coordination.asked).toEqual([
      ["drain", "n2", { why: "new memory", despiteChecks: false }, "admin"],
      ["reboot", "n1", { why: "kernel", despiteChecks: true }, "admin"],
      ["hold", "*", "holidays", expect.stringMatching(/Z$/), "admin"],
      ["hold", "n3", "disk", null, "admin"],
      ["unhold", "n3", "admin"],
      ["unhold", "*", "admin"],
      ["settle", "all", { why: "n4 is gone" }, "admin"],
    ]);
  });

  test("exit codes: 2 for a wrong command line, 3 for a denial with its reasons, 1 for the rest", async () => {
    for (const wrong of [["drain", "n2"], ["drain"], ["hold", "--why", "x", "--until", "soon"], ["rollout", "start", "--kind", "dance"], ["nonsense"], ["why", "n1", "--nonsense"]]) expect((await evenkeel(...wrong)).code, wrong.join(" ")).toBe(2);
    expect((await evenkeel("--help")).code).toBe(0);
    const denied = await evenkeel("resume", "n2");
    expect([denied.code, denied.stderr]).toEqual([3, expect.stringMatching(/^evenkeel: not now\n {2}not-held {2}n2 is not drained\n {12}→ wait\n$/)]);
    expect(JSON.parse((await evenkeel("resume", "n2", "--json")).stdout)).toMatchObject({ error: { message: "n2 is not drained" }, denials: [{ code: "not-held" }] });
    expect((await start(hub, ["drain", "n2", "--why", "x"], { token: "reader-token" }).ended)).toMatchObject({ code: 1, stderr: expect.stringContaining("may only read") });
  });

  test("abort and clear find the lease by node or id; clear asks first", async () => {
    coordination.leases = [leaseOf("a-1", "n3"), leaseOf("b-2", "n1"), leaseOf("c-3", "n2")];
    expect((await evenkeel("abort", "n3", "--why", "not today")).code).toBe(0);
    const unsure = await evenkeel("clear", "n1", "--why", "it burnt");
    expect([unsure.code, unsure.stderr]).toEqual([2, expect.stringMatching(/frees the slot of n1 .* another node of its groups may go down[^]*say --yes/)]);
    expect((await evenkeel("clear", "b-2", "--why", "it burnt", "--yes")).stdout).toBe("the slot of n1 is free\n");
    expect((await evenkeel("clear", "n1", "--why", "it burnt", "--yes"))).toMatchObject({ code: 1, stderr: expect.stringContaining("n1 holds no slot") });
    const asked = start(hub, ["clear", "n2", "--why", "gone"], { screen: true });
    await asked.said(/Free the slot of n2\?/);
    asked.child.stdin?.write("yes\n");
    expect((await asked.ended).code).toBe(0);
    expect(coordination.asked.map(([what, id]) => [what, id])).toEqual([["abort", "a-1"], ["clear", "b-2"], ["clear", "c-3"]]);
  });
});

describe("--wait", () => {
  test("a drain is waited for, with its reasons and progress, until it is there", async () => {
    coordination.denials = [quorum];
    const drain = start(hub, ["drain", "n2", "--why", "memory", "--wait"]);
    await drain.said(/n2 {2}waiting: all: 1 of 3 may be down, and n3 is\n/);
    const id = coordination.requests[0]?.id ?? "";
    [coordination.requests, coordination.leases] = [[], [leaseOf(id, "n2", { phase: "draining", progress: "stopping nginx (2 of 3)" })]];
    await drain.said(/n2 {2}draining: stopping nginx \(2 of 3\)\n/);
    coordination.leases = [leaseOf(id, "n2", { phase: "confirmed" })];
    expect(await drain.ended).toMatchObject({ code: 0, stdout: expect.stringContaining("n2 is drained, and stays so until") });
  });

  test("a drain that the node declines says why, in the node's words", async () => {
    const drain = start(hub, ["drain", "n2", "--why", "memory", "--wait"]);
    await drain.said(/waiting/);
    [coordination.leases, coordination.requests] = [[leaseOf(coordination.requests[0]?.id ?? "", "n2", { phase: "draining", progress: "putting back", why: "nobody else takes the address" })], []];
    await drain.said(/draining: putting back/);
    coordination.leases = [];
    expect(await drain.ended).toMatchObject({ code: 3, stderr: expect.stringContaining("n2 was not drained: nobody else takes the address") });
  });

  test("a reboot that is called off, or gets stuck, ends with 3; one that comes back with 0, as JSON too", async () => {
    const off = start(hub, ["reboot", "n2", "--why", "kernel", "--wait"]);
    await off.said(/waiting: its turn/);
    coordination.requests = [];
    expect(await off.ended).toMatchObject({ code: 3, stderr: expect.stringContaining("n2 was not rebooted") });
    const stuck = start(hub, ["reboot", "n2", "--why", "kernel", "--wait"]);
    await stuck.said(/waiting/);
    coordination.leases = [leaseOf(coordination.requests[0]?.id ?? "", "n2", { phase: "confirmed", work: "reboot", stuck: { since: "2026-05-04T00:00:00.000Z", why: "it does not come back" } })];
    expect(await stuck.ended).toMatchObject({ code: 3, stderr: expect.stringContaining("n2 is stuck: it does not come back") });
    Object.assign(coordination, { leases: [], requests: [] });
    const good = start(hub, ["reboot", "n2", "--why", "kernel", "--wait", "--json"]);
    await good.said(/waiting/);
    const id = coordination.requests[0]?.id ?? "";
    [coordination.requests, coordination.leases] = [[], [leaseOf(id, "n2", { phase: "soaking", work: "reboot" })]];
    await good.said(/soaking/);
    coordination.leases = [];
    const { code, stdout } = await good.ended;
    expect(code).toBe(0);
    expect(stdout.trim().split("\n").map((line) => JSON.parse(line))).toMatchObject([{ change: "node", text: /waiting/ }, { text: "soaking" }, { change: "end", ok: true }].map((each) => ({ ...each, text: expect.anything() })));
  });
});
