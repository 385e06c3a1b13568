import { describe, expect, test } from "vitest";
import type { LeaseId, NodeName } from "../../shared/ids.ts";
import { Budget } from "./budget.ts";
import { PATIENCE } from "./state.ts";
import { ClusterTwin } from "./twin.ts";

/** The twelve ways in which coordinators of reboots have burned their users, and what happens here instead. */

const DAY_MS = 86_400_000;
const three = ["n1", "n2", "n3"] as const;

test("burn 1: a node that does not return keeps its slot, however long it takes", () => {
  const cluster = new ClusterTwin(three);
  const id = cluster.ask("n1");
  cluster.drainsAndGoes("n1");
  cluster.ask("n2");
  cluster.wallOffsetMs = 3 * 365 * DAY_MS;
  cluster.waits(DAY_MS);
  expect(cluster.lease("n1")).toMatchObject({ id, phase: "confirmed", stuck: { why: expect.stringContaining("has not come back") } });
  expect(cluster.lease("n2")).toBeUndefined();
  expect(cluster.effects).toContainEqual({ do: "look-outside", node: "n1", lease: id });
});

test("burn 2: a holder that has left the repository still counts, is shown, and is freed by a person, with a reason", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3", "n4"]);
  const id = cluster.ask("n4");
  cluster.drainsAndGoes("n4");
  cluster.push(three);
  cluster.ask("n1");
  expect(cluster.lease("n1")).toBeUndefined();
  expect(cluster.why("n1")[0]).toMatchObject({ code: "quorum", text: expect.stringContaining("n4 is at work or rebooting (ada)"), sinceMs: expect.any(Number) });
  cluster.waits(120_000);
  expect(cluster.step({ kind: "clear", id, by: "ada", why: "n4 is sold" })).toEqual({ ok: true });
  expect(cluster.notes).toContain("cleared n4 by ada: n4 is sold");
  expect(cluster.lease("n1")?.phase).toBe("draining");
});

test("burn 3: many that ask at once are decided upon one after the other", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3", "n4", "n5"]);
  cluster.step({ kind: "hold", what: "*", hold: { by: "ada", why: "visitors", sinceMs: 0, untilMs: null } });
  for (const node of ["n1", "n2", "n3", "n4", "n5"]) cluster.ask(node);
  expect(cluster.state.durable.leases.size).toBe(0);
  cluster.step({ kind: "unhold", what: "*", by: "ada" });
  expect([...cluster.state.durable.leases.values()].map(({ node }) => node)).toEqual(["n1", "n2"]);
});

describe("burn 4: one budget for all disruption", () => {
  const take = (cluster: ClusterTwin, node: string, holder: "script" | "fleetlock") => cluster.step({ kind: "take", id: `t-${node}` as LeaseId, node: node as NodeName, holder, by: "ada", soakMs: 0 });

  test("a reboot, a script, a machine with FleetLock and somebody's hands stand in one another's way", () => {
    const cluster = new ClusterTwin(three, {}, ["f1"]);
    expect(take(cluster, "n1", "script").ok).toBe(true);
    expect(take(cluster, "f1", "fleetlock")).toMatchObject({ ok: false, denials: [{ code: "quorum" }] });
    cluster.ask("n2");
    cluster.ask("n3", { work: { do: "hold" } });
    expect([...cluster.state.durable.leases.values()].map(({ node }) => node)).toEqual(["n1"]);
    cluster.step({ kind: "give-back", node: "n1" as NodeName, holder: "script", id: null, by: "ada" });
    expect([...cluster.state.durable.leases.values()].map(({ node }) => node)).toEqual(["n2"]);
  });

  test("a node that somebody else has cordoned counts as down", () => {
    const cluster = new ClusterTwin(three);
    cluster.says("n3", { cordonedBy: "kubectl" });
    cluster.ask("n1");
    expect(cluster.lease("n1")).toBeUndefined();
    expect(cluster.why("n1")[0]?.text).toContain("n3 has been taken out of service by kubectl");
  });
});

describe("burn 5: nothing goes down into a degraded cluster", () => {
  test("an unhealthy node counts as down", () => {
    const cluster = new ClusterTwin(three);
    cluster.says("n3", { healthy: false, trouble: ["nginx.service has failed"] });
    cluster.ask("n1");
    expect(cluster.lease("n1")).toBeUndefined();
    expect(cluster.why("n1")[0]?.text).toContain("n3 is not well: nginx.service has failed");
  });

  test("it is looked at again right before the reboot, and the drain is undone", () => {
    const cluster = new ClusterTwin(three);
    cluster.ask("n1");
    cluster.reaches("n1", "draining");
    cluster.says("n3", { healthy: false, trouble: ["nginx.service has failed"] });
    cluster.reaches("n1", "drained");
    expect(cluster.lease("n1")?.phase).toBe("drained");
    cluster.waits(PATIENCE.confirmMs);
    const orders = cluster.ordersTo("n1").map(({ kind }) => kind);
    expect(orders).toContain("abort");
    expect(orders).not.toContain("confirm");
    expect(cluster.lease("n1")).toMatchObject({ phase: "aborting", why: expect.stringContaining("n3 is not well") });
  });
});

describe("burn 6: the next node waits until this one is really back", () => {
  function returned(): ClusterTwin {
    const cluster = new ClusterTwin(three);
    cluster.ask("n1");
    cluster.ask("n2");
    cluster.drainsAndGoes("n1");
    cluster.boots("n1", "resuming");
    return cluster;
  }

  test("one that is not well is not soaking, and one that gets sick begins anew", () => {
    const cluster = returned();
    cluster.says("n1", { healthy: false, trouble: ["3 placement groups are not clean"] });
    cluster.reaches("n1", "back");
    cluster.waits(600_000);
    expect(cluster.lease("n1")).toMatchObject({ phase: "checking", stuck: { why: expect.stringContaining("3 placement groups are not clean") } });
    cluster.says("n1", { healthy: true, trouble: [] });
    cluster.waits(55_000);
    cluster.says("n1", { healthy: false, trouble: ["again"] });
    cluster.says("n1", { healthy: true, trouble: [] });
    cluster.waits(55_000);
    expect(cluster.lease("n2")).toBeUndefined();
    cluster.waits(5_000);
    expect(cluster.lease("n2")?.phase).toBe("draining");
  });

  test("one whose subsystem is not whole yet, or that has not said so, is not soaking", () => {
    const cluster = returned();
    cluster.says("n1", { gates: undefined });
    cluster.reaches("n1", "back");
    expect(cluster.lease("n1")?.phase).toBe("checking");
    cluster.says("n1", { gates: [{ kind: "frr", text: "the BGP session with n3 is not up", holds: "others", missing: ["n3"] }] });
    expect(cluster.lease("n1")?.phase).toBe("checking");
    // What would keep only itself from going is no sign of being ill.
    cluster.says("n1", { gates: [{ kind: "frr", text: "the budget default/web lets no pod go", holds: "itself", missing: [] }] });
    expect(cluster.lease("n1")?.phase).toBe("soaking");
    cluster.says("n1", { gates: [{ kind: "frr", text: "the LXD member n3 is offline", holds: "others", missing: ["n3"] }] });
    expect(cluster.lease("n1")?.phase).toBe("checking");
    // That one is away is known, and counted.
    cluster.vanishes("n3");
    cluster.says("n1");
    expect(cluster.lease("n1")?.phase).toBe("soaking");
  });

  test("a service check that is not well holds the slot", () => {
    const cluster = returned();
    cluster.step({ kind: "checks", failing: ["website"] });
    cluster.reaches("n1", "back");
    cluster.waits(600_000);
    expect(cluster.lease("n1")?.phase).toBe("soaking");
    cluster.step({ kind: "checks", failing: [] });
    expect(cluster.lease("n1")).toBeUndefined();
  });
});

describe("burn 7: what blocks is named, with who could change it", () => {
  test("in a group of two", () => {
    const cluster = new ClusterTwin(["n1", "n2"]);
    cluster.ask("n1");
    expect(cluster.why("n1")).toMatchObject([{ code: "quorum", text: "in the group cluster of 2, none may be down", cure: expect.stringContaining("acceptOutage: true") }]);
  });

  // Budgets of Kubernetes are read before the drain, in shared/kinds/kubernetes-drain.ts: what it says arrives here as a gate.
  test("by a gate of the node itself, which names the budget; a person's word goes in spite of it", () => {
    const cluster = new ClusterTwin(three);
    cluster.says("n1", { gates: [{ kind: "frr", text: "the budget default/web lets no pod go", holds: "itself", missing: [] }] });
    cluster.ask("n1");
    expect(cluster.lease("n1")).toBeUndefined();
    expect(cluster.why("n1")).toMatchObject([{ code: "gate", text: "n1 must not go now: the budget default/web lets no pod go" }]);
    expect(cluster.why("n2")).toEqual([]);
    cluster.says("n1", { gates: [] });
    expect(cluster.lease("n1")?.phase).toBe("draining");
    const other = new ClusterTwin(three);
    other.says("n1", { gates: [{ kind: "frr", text: "the budget default/web lets no pod go", holds: "itself", missing: [] }] });
    other.ask("n1", { despiteChecks: true });
    expect(other.lease("n1")?.phase).toBe("draining");
  });
});

describe("burn 8: somebody else's cordon is not ours to undo", () => {
  test("a node that comes back cordoned by somebody else keeps its slot, and the next one waits", () => {
    const cluster = new ClusterTwin(three);
    cluster.ask("n1");
    cluster.ask("n2");
    cluster.drainsAndGoes("n1");
    cluster.boots("n1", "resuming");
    cluster.says("n1", { cordonedBy: "kubectl" });
    cluster.reaches("n1", "back");
    cluster.waits(600_000);
    expect(cluster.lease("n1")?.phase).toBe("checking");
    expect(cluster.lease("n2")).toBeUndefined();
  });

  // What a drain finds done already is neither done nor undone: agent/lease/drain.test.ts, and on a real API test/kube.
});

describe("burn 9: no reboot loops", () => {
  test("a node that says it is back, and has not rebooted, halts: its slot stays taken, and nobody asks again", () => {
    const cluster = new ClusterTwin(three);
    const id = cluster.ask("n1");
    cluster.reaches("n1", "drained");
    cluster.reaches("n1", "rebooting");
    cluster.reaches("n1", "back", { result: { ok: true, rebooted: true, failure: null, update: null } });
    cluster.waits(600_000);
    expect(cluster.lease("n1")).toMatchObject({ id, stuck: { why: expect.stringContaining("has not rebooted") } });
  });

  test("a lease that is over is never given again", () => {
    const cluster = new ClusterTwin(three);
    const id = cluster.ask("n1");
    cluster.reaches("n1", "declined");
    cluster.says("n1", { lease: null });
    expect(cluster.step({ kind: "request", request: { id, node: "n1" as NodeName, work: { do: "reboot" }, drain: { timeoutMs: 60_000, onTimeout: "undo" }, soakMs: 0, expectedMs: 1, by: "ada", rollout: null, despiteChecks: false } })).toMatchObject({ ok: false, denials: [{ code: "ended" }] });
  });

  // That an unknown reboots nothing, and that a node which needs another reboot after its reboot halts: hub/rollout/rollout.test.ts.
});

test("burn 10: what is in force is shown, and what is not obeyed is never silent", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3", "n4", "n5"], { voters: { members: three, maxUnavailable: 0 }, pair: { members: ["n4", "n5"], acceptOutage: true } });
  const budget = new Budget(cluster.state, { wallMs: 0, monoMs: cluster.nowMs }, PATIENCE);
  expect(budget.groups.map(({ name, size, allowed }) => [name, size, allowed])).toEqual([["cluster", 5, 2], ["voters", 3, 0], ["pair", 2, 1]]);
  expect(cluster.why("n1")).toMatchObject([{ code: "quorum", cure: "maxUnavailable of the group voters in cluster.yaml forbids it" }]);
  expect(cluster.why("n4")).toEqual([]);
});

describe("burn 11: window against lock", () => {
  test("a window that closes takes back what has not been confirmed, and nothing else", () => {
    const cluster = new ClusterTwin(["n1", "n2", "n3", "n4", "n5"]);
    const [gone, draining, waiting] = [cluster.ask("n1"), cluster.ask("n2"), cluster.ask("n3")];
    cluster.drainsAndGoes("n1");
    cluster.reaches("n2", "draining");
    for (const id of [gone, draining, waiting]) cluster.step({ kind: "withdraw", id, why: "the window is closing" });
    expect(cluster.lease("n1")?.phase).toBe("confirmed");
    expect(cluster.lease("n2")?.phase).toBe("aborting");
    expect(cluster.state.durable.requests.size).toBe(0);
    cluster.reaches("n2", "declined");
    expect(cluster.ended(draining)?.how).toBe("declined");
  });

  // A node starts only if its usual duration fits into what is left of the window: hub/rollout/rollout.test.ts.
});

describe("burn 12: nothing that matters is only in memory", () => {
  test("a restart keeps slots and queue, and gives nothing until everybody has spoken", () => {
    const cluster = new ClusterTwin(three);
    cluster.ask("n1");
    cluster.drainsAndGoes("n1");
    const waiting = cluster.ask("n2");
    cluster.restart();
    expect(cluster.lease("n1")?.phase).toBe("confirmed");
    expect(cluster.state.durable.requests.has(waiting)).toBe(true);
    cluster.waits(600_000);
    expect(cluster.lease("n2")).toBeUndefined();
  });

  test("a power cut of the whole house: all come back, and the holder gives its slot back by itself", () => {
    const cluster = new ClusterTwin(three);
    const id = cluster.ask("n1");
    cluster.drainsAndGoes("n1");
    for (const node of ["n2", "n3"]) cluster.vanishes(node);
    cluster.restart();
    cluster.boots("n1", "resuming");
    for (const node of ["n2", "n3"]) cluster.boots(node);
    cluster.reaches("n1", "back");
    cluster.waits(60_000);
    expect(cluster.ended(id)?.how).toBe("released");
  });

  test("a database out of a backup: what nodes hold is taken over from what they say, and the epoch rises above the lost one", () => {
    const cluster = new ClusterTwin(three);
    const backup = cluster.state.durable;
    for (let times = 0; times < 3; times++) cluster.restart();
    const id = cluster.ask("n1");
    cluster.reaches("n1", "draining");
    cluster.says("n1", { epochSeen: cluster.state.durable.epoch });
    const { epoch } = cluster.state.durable;
    expect(backup.epoch).toBeLessThan(epoch - 1);
    cluster.restart(backup);
    expect(cluster.lease("n1")).toMatchObject({ id, phase: "aborting", by: "an earlier hub" });
    expect(cluster.state.durable.epoch).toBeGreaterThan(epoch);
    cluster.ask("n2");
    expect(cluster.lease("n2")).toBeUndefined();
  });

  test("a database out of a backup: a machine without an agent, which may have taken its slot again since, keeps it until it says so", () => {
    const cluster = new ClusterTwin(three, {}, ["f1"]);
    const machine = { node: "f1" as NodeName, holder: "fleetlock", by: "f1" } as const;
    const slot = (): string | undefined => [...cluster.state.durable.leases.values()].find(({ node }) => node === "f1")?.phase;
    cluster.step({ kind: "take", id: "t-f1" as LeaseId, ...machine, soakMs: 5_000 });
    cluster.step({ kind: "give-back", id: null, ...machine });
    const backup = cluster.state.durable;
    expect(slot()).toBe("soaking");
    cluster.step({ kind: "take", id: "t-f2" as LeaseId, ...machine, soakMs: 5_000 });
    cluster.says("n1", { epochSeen: backup.epoch + 3 });
    cluster.restart(backup);
    cluster.says("n1", { epochSeen: backup.epoch + 3 });
    cluster.waits(60_000);
    expect(slot()).toBe("held");
    cluster.step({ kind: "give-back", id: null, ...machine });
    cluster.waits(60_000);
    expect(slot()).toBeUndefined();
  });
});
