import { describe, expect, test } from "vitest";
import { ClusterTwin } from "./twin.ts";

test("one lease, from the request to the release", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);

  // Asked for and granted in the same moment, since nothing stands in the way. Nothing else may go from now on.
  const id = cluster.ask("n1");
  expect(cluster.lease("n1")).toMatchObject({ id, phase: "draining", groups: ["cluster"] });
  expect(cluster.ordersTo("n1")).toMatchObject([{ kind: "grant", lease: id, challenge: "n1, boot 1" }]);
  cluster.ask("n2");
  expect(cluster.lease("n2")).toBeUndefined();
  expect(cluster.why("n2").map(({ code, text }) => [code, text])).toEqual([["quorum", "in the group cluster of 3, 1 may be down, and with n2 it would be 2: n1 is being drained (ada)"]]);

  // Drained: everybody is asked where he stands, and only with all answers in it gets its second word.
  cluster.reaches("n1", "draining", { progress: "stopping nginx" });
  expect(cluster.lease("n1")?.progress).toBe("stopping nginx");
  cluster.reaches("n1", "drained");
  expect(cluster.lease("n1")?.phase).toBe("confirmed");
  expect(cluster.ordersTo("n1").at(-1)).toMatchObject({ kind: "confirm", lease: id });

  // It reboots, comes back with another boot, and puts back what it drained.
  cluster.reaches("n1", "rebooting");
  cluster.vanishes("n1");
  cluster.waits(120_000);
  cluster.boots("n1", "resuming");
  expect(cluster.lease("n1")?.phase).toBe("checking");
  cluster.reaches("n1", "back", { result: { ok: true, rebooted: true, failure: null, update: null } });
  expect(cluster.lease("n1")?.phase).toBe("soaking");

  // It is watched for a minute; then the slot is free, and the next one goes in the same moment.
  cluster.waits(55_000);
  expect(cluster.lease("n1")?.phase).toBe("soaking");
  cluster.waits(5_000);
  expect(cluster.ended(id)).toMatchObject({ how: "released", result: { ok: true, rebooted: true } });
  expect(cluster.ordersTo("n1").at(-1)).toEqual({ v: 1, kind: "release", lease: id });
  expect(cluster.lease("n2")?.phase).toBe("draining");
});

test("a node that cannot drain declines, and its slot is free without a reboot", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1");
  cluster.reaches("n1", "undoing", { why: "nginx would not stop" });
  expect(cluster.lease("n1")).toMatchObject({ phase: "aborting", calledOffBy: "node" });
  cluster.reaches("n1", "declined", { why: "nginx would not stop" });
  expect(cluster.ended(id)).toMatchObject({ how: "declined", why: "nginx would not stop" });
});

test("a grant that was lost is sent again, and one that is void is decided upon anew", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1");
  cluster.says("n1");
  cluster.says("n1", { challenge: "another" });
  expect(cluster.ordersTo("n1")).toMatchObject([
    { kind: "grant", lease: id, challenge: "n1, boot 1" },
    { kind: "grant", lease: id, challenge: "n1, boot 1" },
    { kind: "grant", lease: id, challenge: "another" },
  ]);
  // Somebody else is not well now: it goes back into the queue.
  cluster.says("n2", { healthy: false, trouble: ["a disk fails"] });
  cluster.says("n1", { challenge: "a third" });
  expect(cluster.lease("n1")).toBeUndefined();
  expect(cluster.state.durable.requests.has(id)).toBe(true);
});

test("an abort does not make a grant harmless that is still under way", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1");
  cluster.vanishes("n1");
  cluster.step({ kind: "abort", id, by: "ada", why: "not now" });
  expect(cluster.step({ kind: "clear", id, by: "ada", why: "it is off" })).toMatchObject({ ok: false, denials: [{ code: "order-alive" }] });
  cluster.waits(120_000);
  expect(cluster.step({ kind: "clear", id, by: "ada", why: "it is off" })).toEqual({ ok: true });
});

test("an abort of a grant that never arrived ends the lease as soon as the grant is void", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1");
  cluster.step({ kind: "abort", id, by: "ada", why: "not now" });
  cluster.says("n1");
  expect(cluster.lease("n1")?.phase).toBe("aborting");
  cluster.says("n1", { challenge: "another" });
  expect(cluster.ended(id)).toMatchObject({ how: "void", why: "not now" });
});

test("a word that was held up for long does not make a dead node live", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  cluster.waits(60_000);
  cluster.vanishes("n2");
  cluster.waits(60_000);
  cluster.says("n2");
  cluster.ask("n1");
  expect(cluster.lease("n1")).toBeUndefined();
  expect(cluster.why("n1")[0]?.text).toContain("n2 has not been heard of for");
});

describe("gates", () => {
  const misses = (...nodes: string[]) => ({ gates: [{ kind: "frr", text: `${nodes.join(" and ")} not to be seen`, holds: "others" as const, missing: nodes }] });

  test("what one node says holds the others, and not itself: its own going may be the cure", () => {
    const cluster = new ClusterTwin(["n1", "n2", "n3", "n4", "n5"]);
    cluster.says("n2", { gates: [{ kind: "frr", text: "the address is on two nodes", holds: "others", missing: [] }] });
    cluster.ask("n1");
    expect(cluster.lease("n1")).toBeUndefined();
    expect(cluster.why("n1")).toMatchObject([{ code: "gate", text: "n2 says that no other may go now: the address is on two nodes" }]);
    cluster.ask("n2");
    expect(cluster.lease("n2")?.phase).toBe("draining");
    // It is on its way, and says nothing more of the others.
    cluster.reaches("n2", "draining");
    cluster.says("n2", { gates: undefined });
    expect(cluster.lease("n1")?.phase).toBe("draining");
  });

  test("whoever misses a node that is away by order is up, and keeps nobody from going who is told to", () => {
    const cluster = new ClusterTwin(["n1", "n2", "n3", "n4", "n5"]);
    cluster.ask("n1");
    cluster.reaches("n1", "draining");
    // Its sessions end with its drain, before it has had its second word.
    for (const node of ["n2", "n3"]) cluster.says(node, misses("n1"));
    cluster.reaches("n1", "drained");
    expect(cluster.lease("n1")?.phase).toBe("confirmed");
    cluster.ask("n4");
    expect(cluster.lease("n4")?.phase).toBe("draining");
  });

  test("a node that is missed and is there keeps the others from going, and may go itself", () => {
    const cluster = new ClusterTwin(["n1", "n2", "n3", "n4", "n5"]);
    for (const node of ["n2", "n3"]) cluster.says(node, misses("n1"));
    cluster.says("n1", misses("n2", "n3"));
    cluster.ask("n4");
    expect(cluster.lease("n4")).toBeUndefined();
    cluster.ask("n1");
    expect(cluster.lease("n1")?.phase).toBe("draining");
  });

  test("one that turns up between drain and reboot takes the drain back", () => {
    const cluster = new ClusterTwin(["n1", "n2", "n3"]);
    cluster.ask("n1");
    cluster.reaches("n1", "draining");
    cluster.says("n2", { gates: [{ kind: "frr", text: "etcd has no leader", holds: "others", missing: [] }] });
    cluster.reaches("n1", "drained");
    expect(cluster.lease("n1")?.phase).toBe("drained");
    cluster.waits(60_000);
    expect(cluster.lease("n1")).toMatchObject({ phase: "aborting", why: expect.stringContaining("etcd has no leader") });
  });
});

test("a word that brings a node back is not lost when the node does not hear it", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1", { work: { do: "hold" } });
  cluster.reaches("n1", "drained");
  cluster.reaches("n1", "working");
  cluster.vanishes("n1");
  cluster.step({ kind: "finish", id, by: "ada" });
  // The hub is started anew, the node much later: it is told as soon as it speaks.
  cluster.restart();
  cluster.waits(600_000);
  const before = cluster.ordersTo("n1").length;
  cluster.boots("n1", "working");
  expect(cluster.ordersTo("n1").slice(before)).toContainEqual({ v: 1, kind: "finish", lease: id });
  cluster.reaches("n1", "resuming");
  expect(cluster.lease("n1")?.phase).toBe("checking");
});
