import { describe, expect, test } from "vitest";
import { CommitRollout } from "../../shared/config/policy.ts";
import type { NodeName } from "../../shared/ids.ts";
import { leftToOwner, waitingWhy } from "./changes.ts";
import { cancelled, resumed } from "./step.ts";
import { RolloutTwin } from "./twin.ts";

const three = ["n1", "n2", "n3"];
const store = ["services/store.service"];

/** Three nodes that have compared themselves with the newest commit; those that are named hold something back. */
function holding(nodes: readonly string[], twin = new RolloutTwin(three)): RolloutTwin {
  for (const node of three) if (!nodes.includes(node)) twin.stands(node);
  for (const node of nodes) twin.stands(node, store);
  twin.waits(5_000);
  return twin;
}
const why = (twin: RolloutTwin, node: string) => waitingWhy(twin.policy, twin.state, twin.campaigns, node as NodeName, { wallMs: 1_767_225_600_000 + twin.nowMs + twin.wallOffsetMs, monoMs: twin.nowMs });

describe("what nodes hold back of a commit", () => {
  test("rolls by itself: one after the other, the canary first and watched, the hub's machine last", () => {
    const twin = holding(three, new RolloutTwin(three, { canary: ["n2"] as never }, { hubNode: "n1" as never }));
    expect(twin.rollout).toMatchObject({ kind: "change", commit: twin.state.durable.commit, startedBy: "commit 00000000", window: null });
    expect(twin.rollout.nodes.map(({ node, role, state }) => `${node} ${role} ${state}`)).toEqual(["n2 canary leased", "n3 node waiting", "n1 hub waiting"]);
    const grant = twin.ordersTo("n2").find((order) => order.kind === "grant");
    expect(grant).toMatchObject({ work: { do: "converge" } });
    twin.applies("n2");
    twin.waits(120_000);
    expect(twin.states).toBe("n2 done, n3 leased, n1 waiting");
    twin.applies("n3");
    twin.applies("n1");
    expect(twin.rollout.phase).toBe("done");
    // It is not taken for how long an update takes.
    expect(twin.campaigns.durations.size).toBe(0);
    twin.waits(600_000);
    expect(twin.campaigns.rollouts.size).toBe(1);
  });

  test("leaves alone who holds nothing back, and waits a while for who has not said yet", () => {
    const twin = new RolloutTwin(three);
    twin.stands("n2", store);
    twin.stands("n3");
    twin.waits(60_000);
    expect(twin.states).toBe("n1 waiting, n2 waiting, n3 waiting");
    twin.waits(70_000);
    expect(twin.states).toBe("n1 skipped, n2 leased, n3 waiting");
    expect(twin.going("n1").why).toContain("has not said");
    twin.applies("n2");
    twin.waits(120_000);
    expect(twin.states).toBe("n1 skipped, n2 done, n3 skipped");
    expect(twin.rollout.phase).toBe("done");
    // Whoever comes later has a rollout of its own.
    twin.stands("n1", store);
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
  });

  test("a subsystem that is half one thing and half the other keeps nobody from becoming the other; in the end it has to be whole", () => {
    const twin = new RolloutTwin(three);
    const gates = [{ kind: "frr", text: "no OSPF neighbour on eth1 is up", holds: "others" as const, missing: [] }];
    for (const node of three) twin.says(node, { gates });
    for (const node of three) twin.stands(node, ["frr//etc/frr/daemons"]);
    twin.waits(5_000);
    // An update would have to wait for it.
    expect(twin.why("n2").map(({ code }) => code)).toContain("gate");
    for (const node of ["n1", "n2"]) {
      expect(twin.going(node).state).toBe("leased");
      twin.applies(node);
      twin.waits(120_000);
    }
    expect(twin.states).toBe("n1 done, n2 done, n3 leased");
    twin.reaches("n3", "drained");
    twin.reaches("n3", "working");
    twin.stands("n3");
    twin.reaches("n3", "back", { result: { ok: true, rebooted: false, failure: null, update: null } });
    expect(twin.lease("n3")?.phase).toBe("checking");
    for (const node of three) twin.says(node, { gates: [] });
    expect(twin.lease("n3")?.phase).toBe("soaking");
  });

  test("a node that no longer holds anything back while it waits for its slot is passed over", () => {
    const twin = new RolloutTwin(three);
    twin.step({ kind: "hold", what: "*", hold: { by: "ada", why: "visitors", sinceMs: 0, untilMs: null } });
    holding(["n1", "n2"], twin);
    expect(twin.states).toBe("n1 asked, n2 waiting, n3 waiting");
    twin.stands("n1");
    expect(twin.states).toBe("n1 skipped, n2 asked, n3 waiting");
    expect([...twin.state.durable.requests.values()].map(({ node }) => node)).toEqual(["n2"]);
  });

  test("what was pushed meanwhile is applied by who has chosen it, and what that holds back rolls afterwards", () => {
    const twin = holding(["n1", "n2"]);
    twin.push(three);
    twin.applies("n1");
    twin.stands("n3", store);
    twin.waits(130_000);
    expect(twin.states).toBe("n1 done, n2 leased, n3 waiting");
    twin.applies("n2");
    twin.applies("n3");
    expect(twin.states).toBe("n1 done, n2 done, n3 done");
  });
});

describe("trouble halts it", () => {
  const failed = (): RolloutTwin => {
    const twin = holding(three);
    twin.applies("n1", "frr: restart failed");
    return twin;
  };

  test("as soon as the node says so; nobody else goes, and it does not begin anew", () => {
    const twin = holding(three);
    twin.reaches("n1", "drained");
    twin.reaches("n1", "working");
    twin.reaches("n1", "back", { result: { ok: false, rebooted: false, failure: "frr: restart failed", update: null } });
    twin.says("n1", { healthy: false, trouble: ["frr is down"] });
    expect(twin.rollout).toMatchObject({ phase: "halted", halt: { node: "n1", why: "n1 failed: frr: restart failed" } });
    twin.waits(3_600_000);
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
    expect(twin.campaigns.rollouts.size).toBe(1);
  });

  test("a commit that the failed node has taken takes its place", () => {
    const twin = failed();
    const [first] = twin.campaigns.rollouts.keys();
    twin.push(three);
    twin.waits(10_000);
    expect(twin.rollout.phase, "n1 has not taken it yet").toBe("halted");
    twin.stands("n1");
    twin.stands("n2", store);
    twin.stands("n3", store);
    twin.waits(5_000);
    expect(twin.campaigns.rollouts.get(first ?? "")?.phase).toBe("cancelled");
    expect(twin.rollout).toMatchObject({ phase: "running", commit: twin.state.durable.commit });
    expect(twin.states).toBe("n1 skipped, n2 leased, n3 waiting");
  });

  test("a person's halt is not overruled by a push", () => {
    const twin = holding(three);
    twin.change({ ...twin.rollout, phase: "halted", halt: { atMs: 0, node: null, why: "ada: not now", cure: "" } });
    twin.push(three);
    for (const node of three) twin.stands(node, store);
    twin.waits(600_000);
    expect(twin.rollout).toMatchObject({ phase: "halted", halt: { why: "ada: not now" } });
  });

  test("cancelled, or gone on without the node: it does not begin by itself again for this commit, and says why", () => {
    const twin = failed();
    twin.stands("n1", store);
    const over = cancelled(twin.rollout, 0);
    if ("refused" in over) throw new Error(over.refused);
    twin.change(over.rollout);
    twin.waits(600_000);
    expect(twin.campaigns.rollouts.size).toBe(1);
    expect(leftToOwner(twin.campaigns, twin.state, "n2" as NodeName)).toContain("cancelled");
    expect(why(twin, "n1")).toMatchObject({ code: "failed", text: expect.stringContaining("frr: restart failed") });
    // By hand it does, and with a newer commit.
    twin.start("change", { commit: twin.state.durable.commit });
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
  });

  test("tried again by the owner's word", () => {
    const twin = failed();
    twin.stands("n1", store);
    twin.change(resumed(twin.rollout, "retry"));
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
  });
});

describe("when", () => {
  const night = { windows: { night: { opens: "0 2 * * *", zone: "Etc/UTC", lengthMinutes: 120 } } };

  test("at once, whatever the windows of updates are", () => {
    const twin = holding(three, new RolloutTwin(three, { windows: ["night"] }, night));
    expect(twin.rollout).toMatchObject({ kind: "change", phase: "running", window: null });
  });

  test("in a window, if the owner says so: not before it opens, and not when it would close too soon", () => {
    const rollout = CommitRollout.parse({ changes: "in-window", nodeMinutes: 30 });
    const twin = holding(three, new RolloutTwin(three, { windows: ["night"], nodeMinutes: 119 }, { ...night, rollout }));
    twin.waits(60_000);
    expect(twin.campaigns.rollouts.size).toBe(0);
    expect(why(twin, "n2")).toMatchObject({ code: "window" });
    twin.wallOffsetMs = 3.8 * 3_600_000;
    twin.waits(60_000);
    expect(twin.campaigns.rollouts.size).toBe(0);
    twin.wallOffsetMs = 26 * 3_600_000;
    twin.waits(10_000);
    expect(twin.rollout).toMatchObject({ kind: "change", window: { name: "night" } });
  });

  test("not while another rollout is under way, and then by itself", () => {
    const twin = new RolloutTwin(three);
    twin.start("reboot");
    holding(["n3"], twin);
    expect(twin.rollout.kind).toBe("reboot");
    expect(why(twin, "n3")).toMatchObject({ code: "rollout" });
    const over = cancelled(twin.rollout, 0);
    if ("refused" in over) throw new Error(over.refused);
    twin.change(over.rollout);
    expect(twin.rollout.kind).toBe("change");
  });
});

test("after a restart of the hub nobody is known to hold anything back, until the nodes have said so again", () => {
  const twin = holding(three);
  twin.wakes();
  twin.restart();
  for (const node of three) twin.stands(node, store);
  twin.waits(5_000);
  expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
  twin.applies("n1");
  twin.waits(130_000);
  expect(twin.states).toBe("n1 done, n2 leased, n3 waiting");
});
