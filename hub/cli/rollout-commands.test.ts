import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { RolloutNode, RolloutView } from "../../shared/protocol/rollout.ts";
import { denialOf, rolloutNodeOf, rolloutOf } from "../http/coordination-twin.ts";
import { TwinHub } from "../http/twin-hub.ts";
import { evenkeel as run, start, type Ran } from "./evenkeel-twin.ts";

/** `evenkeel rollout` before the real API; the test moves the rollout. */

const hub = new TwinHub();
const { coordination } = hub;
const evenkeel = (...args: readonly string[]): Promise<Ran> => run(hub, ...args);
beforeAll(() => hub.start());
afterAll(() => hub.end());
beforeEach(() => {
  coordination.asked.length = 0;
  Object.assign(coordination, { denials: [], leases: [], requests: [], holds: [], all: [], more: {} });
});

const at = (minute: number): string => `2026-05-04T01:${String(minute).padStart(2, "0")}:00.000Z`;
const phases = (...names: readonly string[]): RolloutNode["timeline"] => names.map((phase, index) => ({ phase, at: at(index) }));

/** Changes the newest rollout, and some of its nodes. */
function move(nodes: Readonly<Record<string, Partial<RolloutNode>>>, more: Partial<RolloutView> = {}): void {
  const [rollout, ...older] = coordination.all;
  if (rollout === undefined) throw new Error("there is no rollout");
  coordination.all = [{ ...rollout, nodes: rollout.nodes.map((node) => ({ ...node, ...nodes[node.node] })), ...more }, ...older];
}

const order = denialOf("order", "n1 goes first");

test("start, steer, list and show", async () => {
  expect((await evenkeel("rollout")).stdout).toContain("no rollout yet");
  expect((await evenkeel("rollout", "halt", "--why", "x"))).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no rollout yet") });
  expect((await evenkeel("rollout", "start", "--nodes", "n1, n2", "--scope", "security")).stdout).toBe("rollout r1 has begun: `evenkeel rollout follow` watches it\n");
  expect((await evenkeel("rollout", "halt", "--why", "wait")).stdout).toBe("rollout r1 is halted\n");
  expect((await evenkeel("rollout", "resume", "r1", "--why", "go", "--failed", "skip")).stdout).toBe("rollout r1 goes on\n");
  expect((await evenkeel("rollout", "cancel", "--why", "enough", "--json")).stdout).toContain('"rollout": "r1"');
  expect(coordination.asked).toEqual([
    ["startRollout", { kind: "update", nodes: ["n1", "n2"], scope: "security" }, "admin"],
    ["halt", "r1", { why: "wait" }, "admin"],
    ["resume", "r1", { why: "go", failed: "skip" }, "admin"],
    ["cancel", "r1", { why: "enough" }, "admin"],
  ]);
  expect((await evenkeel("rollout", "list")).stdout).toMatch(/r1 +update +cancelled +0 of 2 /);
  coordination.denials = [denialOf("rollout", "a rollout is running already")];
  expect(await evenkeel("rollout", "start")).toMatchObject({ code: 3, stderr: expect.stringContaining("a rollout is running already") });
  expect((await evenkeel("rollout", "start", "--nodes", ",")).code).toBe(2);
});

test("show says each node's state, why it waits, what changed, and how users were served", async () => {
  coordination.all = [
    rolloutOf("r1", [], {
      nodes: [
        rolloutNodeOf("n1", { role: "canary", state: "done", startedAt: at(0), endedAt: at(4), timeline: phases("draining", "done") }),
        rolloutNodeOf("n2", { state: "working", timeline: phases("draining", "rebooting"), progress: "rebooting" }),
        rolloutNodeOf("n3", { denials: [denialOf("order", "n2 is at it (rebooting)")] }),
      ],
      changed: [{ name: "openssl", from: "3.0.1", to: "3.0.2", nodes: [] }],
      requests: [{ check: "website", looked: 120, failed: 0 }],
    }),
  ];
  const { stdout } = await evenkeel("rollout", "--hub", hub.url);
  expect(stdout).toMatch(/n1 +canary +done +took 4 min\n/);
  expect(stdout).toMatch(/n2 +rebooting .* rebooting\n/);
  expect(stdout).toMatch(/n3 +waiting +n2 is at it \(rebooting\)\n/);
  expect(stdout).toMatch(/check website +120 looks, none failed\n/);
  expect(stdout).toMatch(/changed +1 package: openssl 3\.0\.1 → 3\.0\.2\n/);
  expect((await evenkeel("rollout", "show", "r1")).stdout).toBe(stdout);
  expect(JSON.parse((await evenkeel("rollout", "--json")).stdout)).toMatchObject({ id: "r1" });
  expect(await evenkeel("rollout", "show", "r9")).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no rollout r9") });
});

test("a rollout is known by the beginning of its id", async () => {
  coordination.all = [rolloutOf("743a46a8-2d61-4473-b365-3fdd67f138fc", ["n1"]), rolloutOf("74aa46a8-2d61-4473-b365-3fdd67f138fc", ["n1"])];
  expect((await evenkeel("rollout", "halt", "743a46a8", "--why", "wait")).stdout).toBe("rollout 743a46a8 is halted\n");
  expect(coordination.asked).toEqual([["halt", "743a46a8-2d61-4473-b365-3fdd67f138fc", { why: "wait" }, "admin"]]);
  expect(await evenkeel("rollout", "show", "74")).toMatchObject({ code: 1, stderr: expect.stringContaining("2 rollouts that begin with 74") });
});

test("followed without a screen: a line for each change, until it is done", async () => {
  const follow = start(hub, ["rollout", "start", "--follow", "--nodes", "n1,n2"]);
  await follow.said(/rollout r1 \(update\)/);
  move({ n1: { state: "working", timeline: phases("draining", "drained", "rebooting"), progress: "waits for its new boot" }, n2: { denials: [order] } });
  await follow.said(/n1 {2}rebooting {2}waits for its new boot\n/);
  await follow.said(/n2 {2}waiting {4}n1 goes first\n/);
  const done: Partial<RolloutNode> = { state: "done", progress: "", denials: [], timeline: phases("draining", "done"), endedAt: at(9) };
  move({ n1: done, n2: done }, { phase: "done", endedAt: at(9) });
  const { code, stdout } = await follow.ended;
  expect(code).toBe(0);
  expect(stdout).toMatch(/01:00:00 {2}n1 {2}draining\n01:01:00 {2}n1 {2}drained\n/);
  expect(stdout).toMatch(/rollout r1 is done: 2 nodes done, 0 packages changed, in 9 min\n$/);
});

test("halted ends with 3 and what to do, cancelled with 1; --json is one object a line", async () => {
  coordination.all = [rolloutOf("r1", ["n1", "n2"])];
  const follow = start(hub, ["rollout", "follow", "--json"]);
  await follow.said(/"node":"n2"/);
  move({ n1: { state: "failed", result: { ok: false, rebooted: false, failure: "dpkg is broken", update: null } } }, { phase: "halted", halt: { at: at(3), node: null, why: "n1 failed", cure: "look at n1" } });
  const { code, stdout } = await follow.ended;
  expect(code).toBe(3);
  const changes = stdout.trim().split("\n").map((line) => JSON.parse(line));
  expect(changes.at(0)).toMatchObject({ change: "rollout", rollout: "r1", phase: "running" });
  expect(changes.at(-2)).toMatchObject({ change: "node", node: "n1", state: "failed", failure: "dpkg is broken" });
  expect(changes.at(-1)).toMatchObject({ change: "rollout", phase: "halted", halt: { why: "n1 failed", cure: "look at n1" } });
  expect((await evenkeel("rollout", "follow", "r1")).stdout).toMatch(/rollout r1 is halted: n1 failed\n {2}→ look at n1\n$/);
  move({}, { phase: "cancelled", halt: null });
  expect((await evenkeel("rollout", "follow")).code).toBe(1);
});

test("a hub that restarts meanwhile is waited for", async () => {
  coordination.all = [rolloutOf("r1", ["n1"])];
  const follow = start(hub, ["rollout", "follow"]);
  await follow.said(/n1 {2}waiting/);
  await hub.stop();
  await follow.said(/nothing listens at .*; trying again/);
  await hub.start();
  await follow.said(/the hub is back/);
  move({ n1: { state: "done" } }, { phase: "done", endedAt: at(5) });
  expect((await follow.ended).code).toBe(0);
});

test("a hub that is not there at the start is said at once", async () => {
  await hub.stop();
  expect(await evenkeel("rollout", "follow", "r1")).toMatchObject({ code: 1, stderr: expect.stringContaining("is the hub running?") });
  await hub.start();
});

test("followed on a screen: a task for each node, with what it is at or waits for", async () => {
  coordination.all = [rolloutOf("r1", ["n1", "n2", "n3"])];
  move({ n2: { denials: [order] } });
  const follow = start(hub, ["rollout", "follow"], { screen: true });
  await follow.said(/rollout r1: update, started by ada[^]*n1 \(canary\) {2}waiting[^]*n2 {2}waiting[^]*n1 goes first/);
  move({ n1: { state: "working", timeline: phases("draining", "rebooting"), progress: "waits for its new boot" } });
  await follow.said(/n1 \(canary\) {2}rebooting[^]*waits for its new boot/);
  await hub.stop();
  await follow.said(/trying again/);
  await hub.start();
  move({ n1: { state: "done", startedAt: at(0), endedAt: at(4), progress: "" } });
  await follow.said(/n1 \(canary\) {2}done in 4 min/);
  move({ n2: { state: "failed", result: { ok: false, rebooted: false, failure: "dpkg is broken", update: null } } }, { phase: "halted", halt: { at: at(3), node: null, why: "n2 failed", cure: "look at n2" } });
  const { code, stdout } = await follow.ended;
  expect(code).toBe(3);
  expect(stdout).toContain("n2  failed: dpkg is broken");
  expect(stdout).toMatch(/rollout r1 is halted: n2 failed[^]*→ look at n2\r\n/);
});

test("Ctrl-C stops the watching, and says that the rollout goes on", async () => {
  coordination.all = [rolloutOf("r1", ["n1"])];
  const follow = start(hub, ["rollout", "follow"], { screen: true });
  await follow.said(/n1 \(canary\) {2}waiting/);
  follow.child.stdin?.write("\u0003");
  const { code, stdout } = await follow.ended;
  expect([code, stdout]).toEqual([130, expect.stringContaining("The rollout goes on")]);
  // The cursor is shown again (DECTCEM).
  expect(stdout.lastIndexOf("\u001b[?25h")).toBeGreaterThan(stdout.lastIndexOf("\u001b[?25l"));
});

test("a configuration change, and a commit that the canary keeps from the others", async () => {
  const commit = "3f2a91cc".padEnd(40, "0") as never;
  expect((await evenkeel("rollout", "start", "--kind", "change")).code).toBe(0);
  expect(coordination.asked).toEqual([["startRollout", { kind: "change" }, "admin"]]);
  coordination.all = [rolloutOf("r1", ["n1"], { kind: "change", commit, startedBy: "commit 3f2a91cc" })];
  expect((await evenkeel("rollout")).stdout).toContain("configuration change 3f2a91cc by commit 3f2a91cc");
  coordination.more = { commit: { commit, canaries: ["n1"] as never, state: "bad", text: "3f2a91cc goes no further: n1 is not well with it", cure: "push a commit that mends it" } };
  expect((await evenkeel("status")).stdout).toContain("3f2a91cc goes no further: n1 is not well with it");
  expect((await evenkeel("rollout", "release", "3f2a91cc", "--why", "I know")).stdout).toBe("3f2a91cc goes to all nodes\n");
  expect(coordination.asked.at(-1)).toEqual(["releaseCommit", "3f2a91cc", { why: "I know" }, "admin"]);
  expect((await evenkeel("rollout", "release", "main", "--why", "I know")).code).not.toBe(0);
});
